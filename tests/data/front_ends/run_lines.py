"""Runs many lines of one framework, [{"front_end": …, "words": [...] or {...}, "folder": …}, …], and says what became of each.

    python run_lines.py LINES ANSWERS

Framework and hooks are imported once; every line runs in a fork of this process, in a folder of its own, so that none finds what
another left in memory. Words are those of a typed line, a dict is the input of a Python call.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def run(front_end: str, words: Any) -> None:
    """One line; ends the process."""
    if front_end.startswith("cm"):
        import cmind
        from cmind import cli

        typed = {"cmr": cli.run_script, "cm": cli.run, "cmx": cli.runx}
        called = {"cmind.access": cmind.access, "cmind.x": cmind.x}
    else:
        import mlc
        from mlc import main

        sys.argv = [front_end, *words] if isinstance(words, list) else sys.argv
        typed = {"mlcr": lambda _: main.mlcr(), "mlc": lambda _: main.main()}
        called = {"mlc.access": mlc.access}
    if front_end in typed:
        typed[front_end](words)
    else:
        answer = called[front_end](words)
        print(json.dumps({key: answer.get(key) for key in ("return", "error", "new_env")}))
        sys.exit(answer["return"])


def in_a_fork(line: dict[str, Any]) -> dict[str, Any]:
    """Exit status and output of one line."""
    folder = Path(line["folder"])
    output = folder.parent / "output"
    child = os.fork()
    if child == 0:
        with output.open("w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        os.environ["FRONT_ENDS_RECORD"] = str(folder.parent)
        os.chdir(folder)
        status = 0
        try:
            run(line["front_end"], line["words"])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            status = 255
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"status": status, "output": output.read_text(errors="replace")}


def main(lines: str, answers: str) -> None:
    """All lines, one after the other."""
    asked = json.loads(Path(lines).read_text())
    framework = "cm" if asked[0]["front_end"].startswith("cm") else "mlc"
    for module in ("cmind" if framework == "cm" else "mlc.main", f"cmx4trt.{framework}.hooks"):
        __import__(module)
    Path(answers).write_text(json.dumps([in_a_fork(line) for line in asked]))


if __name__ == "__main__":
    main(*sys.argv[1:])
