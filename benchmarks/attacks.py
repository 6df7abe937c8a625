"""Damaged files of every kind that is read: none may cause an unforeseen error, hang, or be accepted wrongly.

    python benchmarks/attacks.py [--count 700] [--seed 1] [--kind NAME …]

Every case is a valid file after a few seeded mutations (mutations.py), read like the package reads it, in a separate process
per kind. Counted: "unforeseen" (an exception that is not from cmx4trt.errors, a crash, an error that does not name the
file), "hangs" (more than 60 s) and "wrong successes" (accepted although an independent reading of the bytes disagrees:
see attacked). Exit code 1 if one of them is not 0; the cases are printed and can be repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import attacked
from attacked.base import Kind
from mutations import mutated

from cmx4trt.base.telemetry import switch_off
from cmx4trt.errors import CmxError

SECONDS = 60.0
"""Seconds after which a case counts as hanging; the slowest takes about one second."""
MEMORY = 12 << 30
"""Address space of a worker: larger allocations get a MemoryError instead of exhausting the machine."""
FINE, UNFORESEEN, HANG, WRONG = "fine", "unforeseen", "hang", "wrong success"


@dataclass
class Tally:
    """The outcomes of the cases of a kind."""

    cases: int = 0
    accepted: int = 0
    bad: dict[str, list[str]] = field(default_factory=lambda: {UNFORESEEN: [], HANG: [], WRONG: []})

    def row(self, kind: str) -> str:
        """A line of the table."""
        counts = [len(self.bad[outcome]) for outcome in (UNFORESEEN, HANG, WRONG)]
        return " | ".join(
            [f"{kind:<28}", f"{self.cases:6}", f"{self.accepted:8}", *(f"{count:10}" for count in counts)]
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=700, help="cases per kind (slow kinds: fewer)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", nargs="+", default=list(attacked.KINDS), choices=list(attacked.KINDS))
    parser.add_argument("--worker", nargs=2, type=int, metavar=("FIRST", "END"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    switch_off()
    if options.worker:
        work(options.kind[0], options.seed, *options.worker)
        return 0
    print(f"{'kind':<28} |  cases | accepted | unforeseen |      hangs | wrong successes")
    total = Tally()
    for kind in options.kind:
        tally = attack(kind, options.seed, max(1, options.count // attacked.KINDS[kind].slowness))
        print(tally.row(kind), flush=True)
        total.cases += tally.cases
        total.accepted += tally.accepted
        for outcome, cases in tally.bad.items():
            total.bad[outcome] += cases
    print(total.row("total"))
    for outcome, cases in total.bad.items():
        for case in cases[:20]:
            print(f"{outcome}: {case}")
    return int(any(total.bad.values()))


def attack(kind: str, seed: int, count: int) -> Tally:
    """Run ``count`` cases; a worker that hangs or dies is replaced by one that continues after its last case."""
    tally = Tally()
    while tally.cases < count:
        command = [
            sys.executable,
            __file__,
            "--kind",
            kind,
            "--seed",
            str(seed),
            "--worker",
            str(tally.cases),
            str(count),
        ]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        ended = _listen(worker, tally)
        if ended != FINE:
            tally.bad[ended].append(f"{kind}, seed {seed}, case {tally.cases}")
            tally.cases += 1
    return tally


def _listen(worker: subprocess.Popen[str], tally: Tally) -> str:
    """Collect the worker's outcomes until it ends; returns FINE, or what ended it."""
    assert worker.stdout is not None
    late = threading.Event()

    def give_up() -> None:
        late.set()
        worker.kill()

    with worker.stdout as lines:
        while True:
            timer = threading.Timer(SECONDS, give_up)
            timer.start()
            line = lines.readline()
            timer.cancel()
            if not line:
                break
            case = json.loads(line)
            tally.cases += 1
            tally.accepted += case["accepted"]
            if case["outcome"] != FINE:
                tally.bad[case["outcome"]].append(case["what"])
    return FINE if worker.wait() == 0 else HANG if late.is_set() else UNFORESEEN


def work(kind: str, seed: int, first: int, end: int) -> None:
    """Run cases ``first`` to ``end - 1``, printing one line of JSON per case."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    report = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with tempfile.TemporaryDirectory(prefix="attacks-") as scratch:
        os.environ["XDG_CACHE_HOME"] = os.environ["HOME"] = scratch
        os.chdir(scratch)
        target = attacked.KINDS[kind](Path(scratch))
        good = target.path.read_bytes()
        target.check(good, target.read())
        for number in range(first, end):
            content = mutated(good, f"{seed}:{kind}:{number}")
            target.path.write_bytes(content)
            outcome, accepted, what = judge(target, content)
            case = {"outcome": outcome, "accepted": accepted, "what": f"{kind}, seed {seed}, case {number}: {what}"}
            report.write(json.dumps(case) + "\n")
            report.flush()


def judge(target: Kind, content: bytes) -> tuple[str, bool, str]:
    """The effect of a damaged file: the outcome, whether it was accepted, and a description."""
    try:
        value = target.read()
    except CmxError as error:
        return (FINE if target.names_file(str(error)) else UNFORESEEN), False, f"{type(error).__name__}: {error}"[:300]
    except Exception as error:
        return UNFORESEEN, False, f"{type(error).__name__}: {error}"[:300]
    try:
        target.check(content, value)
    except Exception as error:  # the independent reader fails, or differs
        return WRONG, True, f"accepted, but {type(error).__name__}: {error}"[:300]
    return FINE, True, ""


if __name__ == "__main__":
    sys.exit(main())
