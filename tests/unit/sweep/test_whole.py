"""``cmx4trt sweep`` from the file to the page, killed on the way; two at once on one store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.cli import main

TEXT = """\
defaults: {builder: "null", random_weights: 0, verify: no, report: no, bench: {count: 64}}
matrix:
  batch_size: [1, 2]
  bench.scenario: [Offline, SingleStream]
tasks: {memory: 256MiB}
"""


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cmx4trt", "sweep", *words]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_init_writes_an_example_over_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.yaml"
    assert main(["sweep", "init", str(path)]) == 0
    assert "matrix:" in path.read_text()
    assert main(["sweep", "init", str(path)]) == 4
    assert "already exists" in capsys.readouterr().err
    assert main(["sweep", str(path), "--dry_run"]) == 0
    assert "4 builds, 7 measurements" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["s.yaml"], "a dry run writes nothing"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["none.yaml"], 2, "cannot read sweep file"),
        (["s.yaml", "other.yaml"], 2, "unexpected second file 'other.yaml'"),
        (["s.yaml", "--address=auto", "--on=local"], 2, "--address is for --on=ray, not local"),
        (["s.yaml", "--on=pbs"], 2, "invalid choice: 'pbs'"),
    ],
)
def test_refusals(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *words]) == code
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_is_killed_and_goes_on_and_another_shares_its_store(null: None, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    (tmp_path / "t.yaml").write_text(TEXT + "include: [{batch_size: 4}]\n")
    first = start("s.yaml", cwd=tmp_path)
    status = tmp_path / "s.sweep" / "status.jsonl"
    while not status.exists() or not status.read_text():
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = len(status.read_text().splitlines())
    both = [
        start(name, "--result=r.json" if name == "s.yaml" else "--on=local", cwd=tmp_path)
        for name in ("s.yaml", "t.yaml")
    ]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
    records = [json.loads(line) for line in status.read_text().splitlines()]
    assert len(records) == 6
    assert len({record["key"] for record in records}) == 6, "nothing was done twice"
    assert before >= 1
    engines = sorted(path.name for path in (tmp_path / "engines").rglob("*.plan"))
    assert engines == [f"resnet50-Offline-gpu-b{batch}-fp16.null.plan" for batch in (1, 2, 4)]
    assert not [path for path in (tmp_path / "engines").rglob("*") if path.suffix in (".lock", ".partial")]
    exports: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())["sweep_exports"]
    assert Path(exports["BEST_OFFLINE_WITH_PATH"]).is_file()
    assert Path(exports["PAGE_WITH_PATH"]).read_text().startswith("<!DOCTYPE html>")
    again = start("s.yaml", cwd=tmp_path)
    _, err = again.communicate(timeout=60)
    assert again.returncode == 0
    assert "6 tasks, 6 of them finished before" in err or "ended" not in err


@pytest.mark.slow
def test_on_ray_with_a_fake_gpu(null: None, tmp_path: Path) -> None:
    """Ray on this machine, with one resource that stands for a GPU; the other kind is nowhere."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'cmx4trt[ray]')")
    text = TEXT.replace("matrix:", "include:\n  - {gpu: sm90}\n  - {gpu: sm89}\n#").replace(
        "  batch_size: [1, 2]\n  bench.scenario: [Offline, SingleStream]\n", ""
    )
    (tmp_path / "s.yaml").write_text(text)
    program = (
        "import sys, ray; ray.init(address='local', num_cpus=2, resources={'sm90': 1}, include_dashboard=False)\n"
        "from cmx4trt.cli import main; sys.exit(main(['sweep', 's.yaml', '--on=ray']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 12, done.stderr
    assert "gpu=sm89  no node of the Ray cluster has a sm89" in done.stdout
    cells = json.loads((tmp_path / "s.sweep" / "cells.json").read_text())["cells"]
    assert [(cell["gpu"], cell["state"]) for cell in cells] == [("sm90", "done"), ("sm89", "failed")]
