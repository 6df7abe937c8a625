"""``cmx4trt report`` as a user meets it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cmx4trt.cli import main
from cmx4trt.report.writing import is_report
from cmx4trt.store import folder as store
from cmx4trt.store.manifest import SCHEMA, Manifest

REPOSITORY = Path(__file__).parents[3]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["report", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


LAYER = {
    "name": "conv1",
    "op": "Conv + Relu",
    "precision": "fp16",
    "shape": [64, 112, 112],
    "macs": 118013952,
    "weight_bytes": 18944,
    "activation_bytes": 1906688,
    "input_scale": None,
    "input_steps": 127,
}


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """The least that a report needs: a manifest by hand, and its engine."""
    return publish(tmp_path, "one")


def publish(folder: Path, name: str, **request: object) -> Path:
    path = folder / f"{name}.plan"
    path.write_bytes(b"engine")
    values = {
        "network": "resnet50",
        "precision": "fp16",
        "builder": "tensorrt-rtx",
        "target": "portable",
        "device": "cpu",
    }
    values |= {"copy_streams": 1, "model": None, "random_weights": 0}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {
        "schema": SCHEMA,
        "fingerprint": "f",
        "parts": {},
        "created": "2026-01-01T00:00:00+00:00",
        "engine": {"file": path.name, "bytes": 6, "sha256": digest},
        "request": {**values, "scenario": "Offline", "batch_size": 1, **request},
        "source": {"kind": "random-weights", "seed": 0},
        "network": {"title": "ResNet-50 v1.5"},
        "builder": {"name": "tensorrt-rtx", "version": "1"},
        "graph": {"constant_bytes": 18944, "layers": [LAYER]},
        "verification": {"verdict": "skipped", "reason": "verification was switched off"},
        "execution": {"engine_executed_on_a_device": "no"},
        "stages": {"build": 1.0},
        "tool": {"cmx4trt": "0"},
    }
    path.with_suffix(".json").write_text(json.dumps(manifest))
    return path


@pytest.mark.parametrize("suffix", [".plan", ".json"])
def test_one_engine_by_its_file_or_its_manifest(report: Run, engine: Path, suffix: str) -> None:
    page = engine.with_suffix(".report.html")
    code, out, err = report(engine.with_suffix(suffix))
    assert (code, err) == (0, "")
    assert f"page     {page}" in out
    assert is_report(str(page))


def test_a_page_is_written_anew(report: Run, engine: Path) -> None:
    target = engine.parent / "page.html"
    for name in ("L4", "RTX 5090"):
        assert report(engine, f"--html={target}", f"--gpu={name}")[0] == 0
        assert f"Roofline of {name}" in target.read_text()


def test_several_engines_go_into_the_current_folder(
    report: Run, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    code, out, _ = report(engine, publish(tmp_path, "two", batch_size=4))
    assert code == 0
    assert "engines  2" in out
    assert "2 engines of ResNet-50" in (here / "comparison.html").read_text()


def test_json_is_for_machines(report: Run, engine: Path, tmp_path: Path) -> None:
    code, out, err = report(engine, "--json", "--gpu=T4")
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert content["schema"] == "cmx4trt-report/1"
    (shown,) = content["engines"]
    assert shown["engine"] == str(engine)
    assert shown["layers"] == [LAYER]
    assert shown["macs_per_image"] == LAYER["macs"]
    assert shown["stages_seconds"] == {"build": 1.0}
    assert shown["estimate"]["gpu"] == "T4"
    assert shown["estimate"]["kind"].startswith("estimate")
    seconds = max(2 * LAYER["macs"] / 65e12, (LAYER["weight_bytes"] + LAYER["activation_bytes"]) / 320e9)
    assert shown["estimate"]["seconds_per_batch"] == pytest.approx(seconds)
    assert [verdict["status"] for verdict in shown["verdicts"]] == ["open", "open", "note", "yes"]
    assert shown["loadgen"] == []
    assert {path.name for path in tmp_path.iterdir()} == {"one.plan", "one.json"}, "a page was not asked for"


@pytest.mark.parametrize("swapped", [False, True])
def test_json_estimates_for_the_gpu_of_the_page(report: Run, engine: Path, tmp_path: Path, swapped: bool) -> None:
    page = tmp_path / "page.html"
    engines = [engine, publish(tmp_path, "ampere", target="sm86")]
    code, out, _ = report(*(engines[::-1] if swapped else engines), "--json", f"--html={page}")
    assert code == 0
    estimates = [shown["estimate"] for shown in json.loads(out)["engines"]]
    assert [estimate["gpu"] for estimate in estimates] == ["A40", "A40"]
    assert "estimates for A40" in page.read_text()


def test_json_says_what_an_estimate_is_not(report: Run, engine: Path, tmp_path: Path) -> None:
    ampere = publish(tmp_path, "ampere", target="sm86")
    path = ampere.with_suffix(".json")
    manifest = json.loads(path.read_text())
    manifest["graph"]["uncounted_operators"] = {"TopK": 13, "Where": 172}
    path.write_text(json.dumps(manifest))
    _, out, _ = report(engine, ampere, "--json", "--gpu=L4")
    estimates = [shown["estimate"] for shown in json.loads(out)["engines"]]
    assert [estimate["engine_is_for_this_gpu"] for estimate in estimates] == [True, False]
    assert [estimate["operators_left_out"] for estimate in estimates] == [0, 185]


def test_another_file_in_the_engine_s_place_is_told(report: Run, engine: Path) -> None:
    engine.write_bytes(b"ENGINE")
    (shown,) = json.loads(report(engine, "--json")[1])["engines"]
    assert shown["verdicts"][3]["status"] == "no"
    assert shown["verdicts"][3]["sentence"].startswith("The engine file is not the published one")


def test_json_and_a_page(report: Run, engine: Path, tmp_path: Path) -> None:
    code, out, _ = report(engine, publish(tmp_path, "two"), "--json", f"--html={tmp_path / 'both.html'}")
    assert code == 0
    assert len(json.loads(out)["engines"]) == 2
    assert is_report(str(tmp_path / "both.html"))


def damage(manifest: Path, text: str) -> str:
    manifest.write_text(text)
    return str(manifest)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema": "cmx4tr', "is not a manifest of cmx4trt"),
        ("[" * 100_000, "is not a manifest of cmx4trt"),
        ('{"schema": "cmx4trt-manifest/99"}', "not a manifest of schema cmx4trt-manifest/2"),
        ("[]", "not a manifest of schema"),
        (f'{{"schema": "{SCHEMA}"}}', "was damaged or edited (fingerprint is missing)"),
    ],
)
def test_odd_manifests(report: Run, engine: Path, text: str, words: str) -> None:
    code, out, err = report(damage(engine.with_suffix(".json"), text))
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert words in err
    assert not engine.with_suffix(".report.html").exists()


def test_values_a_page_cannot_show(report: Run, engine: Path) -> None:
    path = engine.with_suffix(".json")
    manifest = json.loads(path.read_text())
    manifest["builder"]["warnings"] = [{"not": "text"}]
    path.write_text(json.dumps(manifest))
    code, _, err = report(engine)
    assert code == 3
    assert "builder.warnings[0] is {'not': 'text'}, expected text" in err


@pytest.mark.parametrize("several", [False, True], ids=["json", "comparison"])
def test_verdicts_that_cannot_be_read(report: Run, engine: Path, several: bool) -> None:
    other = engine.with_name("other.plan")
    manifest = json.loads(engine.with_suffix(".json").read_text())
    manifest["engine"]["file"] = other.name
    manifest["verification"] |= {"verdict": "passed", "sqnr_db": "low"}
    other.with_suffix(".json").write_text(json.dumps(manifest))
    shutil.copy(engine, other)
    code, _, err = report(*((engine, other, f"--html={engine.with_name('c.html')}") if several else (other, "--json")))
    assert code == 3
    assert "has a value that a report cannot show" in err
    assert not engine.with_name("c.html").exists()


def test_nothing_is_written_where_a_manifest_points(report: Run, tmp_path: Path) -> None:
    victim, here = tmp_path / "victim", tmp_path / "a" / "b"
    victim.mkdir()
    here.mkdir(parents=True)
    path = publish(here, "one").with_suffix(".json")
    manifest = json.loads(path.read_text())
    manifest["engine"]["file"] = "../../victim/x.plan"
    path.write_text(json.dumps(manifest))
    code, _, err = report(path)
    assert list(victim.iterdir()) == []
    assert (code, err) == (0, ""), "the engine is looked for beside its manifest"
    assert "x.plan cannot be read" in (here / "x.report.html").read_text()


def test_no_manifest(report: Run, tmp_path: Path) -> None:
    code, _, err = report(tmp_path / "none.plan")
    assert code == 3
    assert f"cannot read manifest {tmp_path / 'none.json'}: No such file or directory" in err


def test_the_engine_may_be_gone(report: Run, engine: Path) -> None:
    engine.unlink()
    assert report(engine)[0] == 0
    assert "cannot be read" in engine.with_suffix(".report.html").read_text()


@pytest.mark.parametrize(
    ("html", "code", "words"),
    [
        ("none/page.html", 4, "is not a folder; make it or give another --html"),
        ("", 2, "expected the name of a file"),
        ("folder/", 2, "expected the name of a file"),
        ("folder", 2, "expected the name of a file"),
        ("one.plan", 4, "the file there is not a cmx4trt report"),
        ("one.json", 4, "the file there is not a cmx4trt report"),
        ("pipe", 4, "what is there is not a regular file"),
        ("/proc/page.html", 4, "cannot write /proc/page.html"),
    ],
)
def test_where_a_page_cannot_go(
    report: Run, engine: Path, monkeypatch: pytest.MonkeyPatch, html: str, code: int, words: str
) -> None:
    monkeypatch.chdir(engine.parent)
    (engine.parent / "folder").mkdir()
    os.mkfifo(engine.parent / "pipe")
    before = engine.read_bytes()
    found, out, err = report(engine, f"--html={html}")
    assert (found, out) == (code, "")
    assert words in err
    assert engine.read_bytes() == before


def test_a_read_only_folder(report: Run, engine: Path, tmpfs: Callable[..., Path]) -> None:
    folder = tmpfs("ro")
    code, _, err = report(engine, f"--html={folder / 'page.html'}")
    assert code == 4
    assert "cannot write" in err


def test_a_full_disk_leaves_the_old_page(report: Run, engine: Path, tmpfs: Callable[..., Path]) -> None:
    page = tmpfs("size=64k") / "page.html"
    assert report(engine, f"--html={page}")[0] == 0
    before = page.read_bytes()
    (page.parent / "filler").write_bytes(b"x" * (os.statvfs(page).f_bavail * os.statvfs(page).f_frsize))
    code, _, err = report(engine, f"--html={page}")
    assert code == 4
    assert "No space left on device" in err
    assert page.read_bytes() == before
    assert {path.name for path in page.parent.iterdir()} == {"page.html", "filler"}


def test_requests_that_cannot_be_meant(report: Run, engine: Path) -> None:
    assert report(engine, "--gpu=RTX 4091")[0] == 2
    code, _, err = report(engine, engine.with_suffix(".json"))
    assert code == 2
    assert "is given twice" in err


def test_hostile_names_of_folders(report: Run, tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert(1)</script>"
    folder.mkdir(parents=True)  # two folders: the name holds a slash
    engine = publish(folder, "a&b")
    assert report(engine)[0] == 0
    text = engine.with_suffix(".report.html").read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_names_that_are_no_unicode(report: Run, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    code, out, _ = report(publish(folder, "one"), "--json", f"--html={tmp_path / 'page.html'}")
    assert code == 0
    assert json.loads(out)["engines"][0]["engine"] == str(folder / "one.plan")
    assert "/?/one.plan" in (tmp_path / "page.html").read_text()


def test_the_package_does_not_need_matplotlib_for_json(engine: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None; from cmx4trt.cli import main; "
        f"sys.exit(main(['report', {str(engine)!r}, '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted command ends its process where threads are left; those of other tests are none of ours."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)


@pytest.mark.usefixtures("alone")
def test_interrupted(report: Run, engine: Path, stand_in: Callable[..., None]) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    stand_in("tensorrt-rtx", sections=interrupt)
    code, _, err = report(engine)
    assert code == 130
    assert err == "cmx4trt: error: interrupted; no report was written\n"


def test_interrupted_by_a_signal_while_a_build_writes_its_report(tensorrt_rtx: str, tmp_path: Path) -> None:
    """A matplotlib that takes its time gives us time to press Ctrl-C."""
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("import time\ntime.sleep(120)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "cmx4trt", "build", "--random_weights=0", "--verify=no"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.endswith("report ...\n"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert rest.endswith(
        "cmx4trt: error: interrupted; the engine has been published, its report has not been written\n"
    )
    (engine,) = (tmp_path / "engines").rglob("*.plan")
    assert not store.doubt_of_engine(*read(engine))


def read(engine: Path) -> tuple[str, Manifest]:
    path = str(engine.with_suffix(".json"))
    return path, store.read_manifest(path)


@pytest.mark.usefixtures("alone")
def test_an_interruption_may_bring_its_own_words(
    tmp_path: Path, stand_in: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt("interrupted; the engine has been published, its report has not been written")

    stand_in("tensorrt-rtx", builder=interrupt)
    assert main(["build", "--random_weights=0", f"--output_dir={tmp_path}"]) == 130
    assert (
        capsys.readouterr().err
        == "cmx4trt: error: interrupted; the engine has been published, its report has not been written\n"
    )
