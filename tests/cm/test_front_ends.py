"""Every way to call the script gives the same engine, and says so in the same keys."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TAGS = "generate engine mlperf inference nvidia"
COMMAS = TAGS.replace(" ", ",")
EXPORTS = {
    "CM_MLPERF_ENGINE_" + key
    for key in (
        *("FILE_WITH_PATH", "MANIFEST_WITH_PATH", "REPORT_WITH_PATH"),
        *("SHA256", "PRECISION", "BATCH_SIZE", "COPY_STREAMS", "BUILDER"),
        *("TARGET", "MODEL", "SCENARIO", "REUSED", "VERIFIED"),
    )
}


def check_exports(env: dict[str, Any], published: Path, reused: str = "yes") -> None:
    assert set(env) >= EXPORTS
    engine = Path(env["CM_MLPERF_ENGINE_FILE_WITH_PATH"])
    assert engine.is_relative_to(published)
    assert hashlib.sha256(engine.read_bytes()).hexdigest() == env["CM_MLPERF_ENGINE_SHA256"]
    assert Path(env["CM_MLPERF_ENGINE_MANIFEST_WITH_PATH"]).is_file()
    assert Path(env["CM_MLPERF_ENGINE_REPORT_WITH_PATH"]).is_file()
    assert env["CM_MLPERF_ENGINE_PRECISION"] == "fp16"
    assert env["CM_MLPERF_ENGINE_BUILDER"] == "tensorrt-rtx"
    assert env["CM_MLPERF_ENGINE_REUSED"] == reused
    assert env["CM_MLPERF_OUTPUT_DIR"] == str(published)


def last_json(text: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(text[text.rindex("\n{\n") :])
    return answer


def options_shown(text: str) -> dict[str, str]:
    """The table of effective options, which comes before any other table."""
    shown: dict[str, str] = {}
    for line in text.splitlines():
        if len(words := line.split(maxsplit=1)) == 2:
            shown.setdefault(*words)
    return shown


def test_cmr_builds_into_the_folder_it_is_called_from(small_cm: Any, rtx: None, folder: Path) -> None:
    answer = small_cm.result("_random-weights", "--verify=no", cwd=folder)
    check_exports(answer["new_env"], folder / "engines", reused="no")
    assert answer["new_env"]["CM_MLPERF_ENGINE_VERIFIED"] == "no"
    assert [path.name for path in folder.iterdir()] == ["engines"]


def test_run_script_with_tags(cm: Any, published: Path, folder: Path) -> None:
    words = ("run", "script", f"--tags={COMMAS},_random-weights", f"--output_dir={published}", "--out=json")
    done = cm.command("cm", *words, cwd=folder)
    assert done.returncode == 0, done.stdout
    check_exports(last_json(done.stdout)["new_env"], published)


@pytest.mark.parametrize("artifact", ["generate-nvidia-engine", "0eef9f05b272401f"])
def test_run_script_with_alias_or_uid(cm: Any, published: Path, folder: Path, artifact: str) -> None:
    words = ("run", "script", artifact, "--tags=_random-weights", f"--output_dir={published}", "--out=json")
    done = cm.command("cm", *words, cwd=folder)
    assert done.returncode == 0, done.stdout
    check_exports(last_json(done.stdout)["new_env"], published)


def test_own_tag(cm: Any, published: Path, folder: Path) -> None:
    check_exports(cm.result("cmx4trt _random-weights", f"--output_dir={published}", cwd=folder)["new_env"], published)


@pytest.mark.parametrize("flag", ["-j", "--json"])
def test_json_in_the_log(cm: Any, published: Path, folder: Path, flag: str) -> None:
    done = cm.cmr("_random-weights", f"--output_dir={published}", flag, cwd=folder)
    assert done.returncode == 0, done.stdout
    check_exports(json.loads(done.stdout[done.stdout.index("INFO:root:{") + len("INFO:root:") :])["new_env"], published)


def test_dependency_by_name(cm: Any, published: Path, folder: Path) -> None:
    """--adr reaches the named rows; this one is not needed here, so nothing is fetched."""
    flags = ("--adr.resnet50-model.tags=_opset-8", "--adr.loadgen.version=r4.1", f"--output_dir={published}")
    check_exports(cm.result("_random-weights", *flags, cwd=folder)["new_env"], published)


def test_both_spellings_of_a_flag_work(cm: Any, folder: Path) -> None:
    done = cm.cmr("_random-weights", "--batch-size=8", "--precision=fp32", "--dry-run", cwd=folder)
    assert done.returncode == 0, done.stdout
    shown = options_shown(done.stdout)
    assert (shown["batch_size"], shown["precision"]) == ("8", "fp32")


@pytest.mark.parametrize(
    ("tags", "flags", "expected"),
    [
        ("_random-weights", (), {"device": "cpu", "builder": "tensorrt-rtx", "precision": "fp16"}),
        ("_random-weights.7", (), {"random_weights": "7"}),
        ("_random-weights _copy_streams.2 _batch_size.3", (), {"copy_streams": "2", "batch_size": "3"}),
        ("_random-weights", ("--env.CM_BATCH_SIZE=5",), {"batch_size": "5"}),
        ("_random-weights _batch_size.6", ("--env.CM_BATCH_SIZE=5",), {"batch_size": "6"}),
        ("_random-weights", ("--env.CM_MODEL=retinanet",), {"network": "retinanet"}),
        ("_random-weights", ("--env.CMX4TRT_PRECISION=bf16",), {"precision": "bf16"}),
        ("_random-weights", ("--env.CM_TENSORRT_WORKSPACE_SIZE=65536",), {"workspace_size": "64 MiB"}),
        ("_random-weights", ("--env.CM_LOADGEN_SCENARIO=server",), {"scenario": "Server"}),
        ("_random-weights", ("--target=ada,ampere",), {"target": "sm80+sm86+sm89"}),
        ("_retinanet _random-weights", (), {"network": "retinanet"}),
        ("_random-weights", ("--verify-",), {"verify": "no"}),
        ("_random-weights", ("--output_dir=mes moteurs/é",), {"output_dir": "{folder}/mes moteurs/é"}),
    ],
)
def test_dry_run_shows_what_was_understood(
    cm: Any, rtx: None, folder: Path, tags: str, flags: tuple[str, ...], expected: dict[str, str]
) -> None:
    done = cm.cmr(tags, *flags, "--dry_run", cwd=folder)
    assert done.returncode == 0, done.stdout
    shown = options_shown(done.stdout)
    assert {name: shown[name] for name in expected} == {k: v.format(folder=folder) for k, v in expected.items()}
    assert list(folder.iterdir()) == []


PYTHON_CALL = """
import json, sys, cmind
answer = cmind.access({"action": "run", "automation": "script", "tags": sys.argv[1], "quiet": True,
                       "output_dir": sys.argv[2], "random_weights": 0, "env": {"SOME_KEY": "kept"}})
json.dump(answer, open(sys.argv[3], "w"))
import os
print(os.getcwd())
"""


def test_python_interface(cm: Any, published: Path, folder: Path, tmp_path: Path) -> None:
    """Values of any type, the caller's environment and folder are as before, the answer is plain data."""
    saved = tmp_path / "answer.json"
    done = subprocess.run(
        [sys.executable, "-c", PYTHON_CALL, COMMAS, str(published), str(saved)],
        cwd=folder,
        env=cm.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(saved.read_text())
    assert answer["return"] == 0
    assert answer["env"]["SOME_KEY"] == "kept"
    check_exports(answer["new_env"], published)
    assert done.stdout.splitlines()[-1] == str(folder)
    assert list(folder.iterdir()) == []


def test_help_names_every_flag(cm: Any, folder: Path) -> None:
    """CM asks a question at the end of its help; it needs an answer on standard input."""
    done = subprocess.run(
        [*_cmr(), TAGS, "--help"],
        cwd=folder,
        env=cm.environment,
        input="n\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for flag in ("--output_dir", "--batch_size", "--workspace_size", "--dry_run"):
        assert flag in done.stdout


def _cmr() -> list[str]:
    return [sys.executable, "-c", "import sys; from cmind.cli import run_script; sys.exit(run_script())"]


def test_short_help_builds_nothing(cm: Any, folder: Path) -> None:
    done = cm.cmr("", "-h", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert list(folder.iterdir()) == []


def test_test_inputs(cm: Any, rtx: None, folder: Path) -> None:
    """``cm test script`` runs what _cm.yaml lists; only the dry run here."""
    done = cm.command(
        "cm", "test", "script", "generate-nvidia-engine", "--test_input_id=dry-run", "--quiet", cwd=folder
    )
    assert done.returncode == 0, done.stdout
    assert "would build" in done.stdout


@pytest.mark.parametrize(
    "words", [("run", "script", f"{TAGS} _random-weights"), ("run", "script", f"--tags={COMMAS},_random-weights")]
)
def test_cmx(cm: Any, rtx: None, folder: Path, words: tuple[str, ...]) -> None:
    done = cm.command("cmx", *words, "--dry_run", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "would build" in done.stdout
