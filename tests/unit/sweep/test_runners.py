"""Where tasks run: within cores, memory and GPUs; what Ray and Slurm are asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.sweep.file import GPU_OPTIONS, SLURM_OPTIONS
from cmx4trt.sweep.on_processes import ProcessRunner
from cmx4trt.sweep.on_ray import options_of
from cmx4trt.sweep.on_slurm import SlurmRunner
from cmx4trt.sweep.run import Sweep
from cmx4trt.sweep.tasks import BUILD, Needs, Outcome, Task

GIB = 1 << 30


def task(key: str, gpu: str | None = None, cores: int = 1, memory: int = GIB) -> Task:
    return Task(key, BUILD, key, Needs(cores, memory, 60, gpu), {})


def drain(runner: ProcessRunner, count: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    while len(outcomes) < count:
        outcomes += runner.wait(10)
    return outcomes


@pytest.mark.parametrize(("cores", "memory", "most"), [(3, 64 * GIB, 3), (8, 2 * GIB, 2)])
def test_processes_stay_within_cores_and_memory(cores: int, memory: int, most: int) -> None:
    inside, seen, lock = 0, 0, threading.Lock()
    together = threading.Barrier(most)

    def run(task: Task, *place: object, **keywords: object) -> Outcome:
        nonlocal inside, seen
        with lock:
            inside += 1
            seen = max(seen, inside)
        together.wait(30)
        with lock:
            inside -= 1
        return Outcome(task.key)

    runner = ProcessRunner("", "", cores, memory, [], run)
    runner.submit([(task(str(number)), ()) for number in range(2 * most)])
    assert sorted(outcome.key for outcome in drain(runner, 2 * most)) == sorted(map(str, range(2 * most)))
    assert seen == most


def test_each_task_sees_one_gpu() -> None:
    both, seen = threading.Barrier(2), []

    def run(task: Task, store: str, token: str, files: object, started: object, gpu: str | None) -> Outcome:
        both.wait(30)
        seen.append(gpu)
        return Outcome(task.key)

    runner = ProcessRunner("", "", 8, 64 * GIB, ["0", "3"], run)
    runner.submit([(task(str(number), "sm90"), ()) for number in range(4)])
    drain(runner, 4)
    assert sorted(seen) == ["0", "0", "3", "3"]


def test_a_worker_that_fails_is_a_lost_task() -> None:
    def run(*arguments: object, **keywords: object) -> Outcome:
        raise RuntimeError("out of threads")

    runner = ProcessRunner("", "", 1, GIB, [], run)
    runner.submit([(task("a"), ())])
    (outcome,) = drain(runner, 1)
    assert outcome.lost
    assert "out of threads" in outcome.error


def test_what_a_machine_does_not_have_is_said() -> None:
    runner = ProcessRunner("", "", 2, 4 * GIB, [])
    assert "this machine has none" in runner.impossible(task("a", "sm90"))
    assert "it needs 3 cores, this machine has 2" in runner.impossible(task("a", cores=3))
    assert "it needs 8 GiB, this machine has 4.3 GB" in runner.impossible(task("a", memory=8 * GIB))
    assert runner.impossible(task("a")) == ""


@pytest.mark.parametrize(
    ("gpu", "resources", "asked"),
    [
        (None, {"CPU": 4.0, "GPU": 8.0}, {}),
        ("sm90", {"CPU": 4.0, "sm90": 2.0}, {"resources": {"sm90": 1}, "num_gpus": 0}),
        ("sm90", {"sm90": 8.0, "GPU": 8.0}, {"resources": {"sm90": 1}, "num_gpus": 1}),
        (
            "sm90",
            {"GPU": 1.0, "accelerator_type:H100": 1.0},
            {"resources": {"accelerator_type:H100": 0.001}, "num_gpus": 1},
        ),
        (
            "mine",
            {"GPU": 1.0, "accelerator_type:mine": 1.0},
            {"resources": {"accelerator_type:mine": 0.001}, "num_gpus": 1},
        ),
    ],
)
def test_ray_is_asked_for_the_right_gpu(gpu: str | None, resources: dict[str, float], asked: dict[str, Any]) -> None:
    assert options_of(task("a", gpu, cores=2), resources) == {"num_cpus": 2, "memory": GIB, **asked}


def slurm(folder: Path, gpus: dict[str, dict[str, Any]], **options: Any) -> SlurmRunner:
    pytest.importorskip("submitit", reason="submitit is not installed (pip install 'cmx4trt[slurm]')")
    known = {name: option.default for name, option in SLURM_OPTIONS.items()}
    of_gpus = {name: {**dict.fromkeys(GPU_OPTIONS), **values} for name, values in gpus.items()}
    return SlurmRunner("", "", str(folder), {**known, **options}, of_gpus)


def test_slurm_is_asked_for_the_right_gpu(tmp_path: Path) -> None:
    runner = slurm(tmp_path, {"sm90": {"constraint": "h100", "partition": "gpu"}}, partition="main", account="lab")
    plain = runner._parameters(task("a").needs)
    assert plain["slurm_partition"] == "main"
    assert (plain["cpus_per_task"], plain["mem_gb"], plain["timeout_min"]) == (1, 1, 65)
    assert "slurm_gres" not in plain
    gpu = runner._parameters(task("a", "sm90").needs)
    assert {n: gpu[f"slurm_{n}"] for n in ("constraint", "gres", "partition", "account")} == {
        "constraint": "h100",
        "gres": "gpu:1",
        "partition": "gpu",
        "account": "lab",
    }
    assert runner.impossible(task("a", "sm90")) == ""
    assert "add it under slurm.gpus" in runner.impossible(task("a", "sm89"))


def test_slurm_gets_one_array_for_equal_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit's own executor, with an sbatch that keeps what it is given."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", ""), ("sbatch", f'cat "$1" >> {tmp_path}/scripts; echo "Submitted batch job 7"')):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    runner = slurm(tmp_path / "jobs", {"sm90": {"constraint": "h100"}}, partition="main")
    runner.submit([(task(str(number), "sm90" if number else None), ()) for number in range(3)])
    scripts = (tmp_path / "scripts").read_text()
    for words in ("--array=0-1%2", "--constraint=h100", "--gres=gpu:1", "--partition=main", "--mem=1GB", "--time=65"):
        assert f"#SBATCH {words}\n" in scripts
    assert scripts.count("--gres") == 1
    assert scripts.count("#!/bin/bash") == 2


@pytest.mark.slow
def test_jobs_of_submitit_run_and_lost_ones_are_told(
    null: None, sweep_of: Callable[[str], Sweep], tmp_path: Path
) -> None:
    """Its local executor: the same files and processes as on a cluster."""
    runner = slurm(tmp_path / "jobs", {}, cluster="local")
    text = "defaults: {builder: 'null', random_weights: 3, verify: no, report: no, bench: no}\ninclude: [{}]\n"
    good = sweep_of(text).tasks()[0]
    runner.submit([(good, ())])
    outcomes: list[Outcome] = []
    while not outcomes:
        outcomes = runner.wait(0.2)
    assert (outcomes[0].exit_code, outcomes[0].error) == (0, "")
    assert outcomes[0].carried, "the runner was given no token of a store"
    runner.submit([(replace(good, needs=replace(good.needs, minutes=1)), ())])
    runner._jobs[0][0].cancel(check=False)
    outcomes = []
    while not outcomes:
        outcomes = runner.wait(0.2)
    assert outcomes[0].lost
    runner.close()
