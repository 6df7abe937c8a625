"""The command line as a user meets it: in a process of its own, standard input closed, from an unrelated folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cmx4trt import __version__
from cmx4trt.base.install import pip_line
from cmx4trt.errors import EXIT_PIPE_CLOSED

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def small(small_environment: dict[str, str]) -> dict[str, str]:
    """The environment in which ResNet-50 is a small network, with this clone on the import path."""
    return {**small_environment, "PYTHONPATH": f"{REPOSITORY}:{small_environment['PYTHONPATH']}"}


def start(*arguments: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cmx4trt", *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    process = start(*arguments, cwd=cwd, **environment)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none/r.json", "none is not a folder; make it or give another --result"),
        ("/dev/null", "what is there is not a regular file; give another --result"),
    ],
)
def test_a_result_that_cannot_be_written_is_refused_before_anything_is_built(
    tmp_path: Path, path: str, words: str
) -> None:
    result = run("build", "--random_weights=0", f"--result={path}", cwd=tmp_path)
    assert result.returncode == 4
    assert words in error_of(result)
    assert not list(tmp_path.iterdir())
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("options", "end"),
    [
        (["--dry_run"], "at exit\n"),
        (["--dry_run", "--evaluation=none.json"], "came back\nat exit\n"),
        (["--precision=none"], "came back\nat exit\n"),
    ],
)
def test_a_build_does_not_take_its_process_apart(tmp_path: Path, options: list[str], end: str) -> None:
    """Only what was registered for the end is called; after a failure, and after LoadGen, Python ends as usual."""
    program = (
        "import atexit, sys; from cmx4trt.cli import program; atexit.register(print, 'at exit'); "
        "code = program(); print('came back'); sys.exit(code)"
    )
    line = [sys.executable, "-c", program, "build", "--random_weights=0", *options]
    done = subprocess.run(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    assert done.stdout.endswith(end)
    assert ("came back" in end) == ("came back" in done.stdout)
    assert done.returncode == (0 if "came back" not in end else 2)


def test_closed_streams_do_not_stop_a_build(small_resnet50: Path, small: dict[str, str], tmp_path: Path) -> None:
    line = f"'{sys.executable}' -m cmx4trt build '--model={small_resnet50}' --verify=no --report=no <&- >&- 2>&-"
    environment = {**os.environ, **small}
    assert subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, check=False).returncode == 0
    (engine,) = tmp_path.rglob("*.plan")
    assert "unchanged since" in run("inspect", str(engine), cwd=tmp_path).stdout


def test_output_that_cannot_be_written_ends_before_the_build(tmp_path: Path) -> None:
    line = f"'{sys.executable}' -m cmx4trt build --random_weights=0 >/dev/full"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "cannot write to standard output: No space left on device" in error_of(done)
    assert done.returncode == 4
    assert files_below(tmp_path) == []


def test_folders_whose_names_are_no_text(small_resnet50: Path, small: dict[str, str], tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    line = ["build", f"--model={small_resnet50}", "--verify=no", f"--output_dir={folder}", "--result=r.json"]
    command = [sys.executable, "-m", "cmx4trt"]
    where = {"cwd": tmp_path, "env": {**os.environ, **small}, "stdout": subprocess.PIPE}
    for reused in ("no", "yes"):
        subprocess.run([*command, *line], check=True, **where)  # type: ignore[call-overload]
        result = json.loads((tmp_path / "r.json").read_text())
        assert result["exports"]["REUSED"] == reused
    assert os.path.dirname(result["engine"]).startswith(folder)
    subprocess.run([*command, "inspect", result["engine"]], check=True, **where)  # type: ignore[call-overload]


def error_of(result: subprocess.CompletedProcess[str]) -> str:
    """The one error sentence; the last line of standard error."""
    assert "Traceback" not in result.stderr + result.stdout
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("cmx4trt: error: ")
    assert result.stderr.count("error:") == 1
    return last


def files_below(folder: Path) -> list[str]:
    return sorted(str(Path(top, name).relative_to(folder)) for top, _, names in os.walk(folder) for name in names)


def test_version_and_help(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout == f"cmx4trt {__version__}\n"
    assert "build" in run("--help", cwd=tmp_path).stdout
    assert "--batch_size" in run("build", "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "the following arguments are required: COMMAND"),
        (["bild"], 2, "invalid choice: 'bild'"),
        (["build", "--batchsize=1"], 2, "unknown argument '--batchsize'; did you mean '--batch_size'?"),
        (["build", "--bach_size", "1"], 2, "did you mean '--batch_size'?"),
        (["build", "--zzz"], 2, "unknown argument '--zzz'; see --help"),
        (["build", "--scenario"], 2, "expected one argument"),
        (["build", "--scenario=Servr"], 2, "did you mean 'Server'?"),
        (["build", "--network=resnet51"], 2, "did you mean 'resnet50'?"),
        (["build", "--precision=fp8"], 2, "expected one of fp32, fp16, bf16, int8"),
        (["build", "--target=hopped"], 2, "target is 'hopped', expected one or more of"),
        (["build", "--batch_size=0"], 2, "batch_size is 0, expected a whole number from 1 to 65536"),
        (["build", "--batch_size=-4"], 2, "batch_size is -4"),
        (["build", "--batch_size=four"], 2, "batch_size is 'four'"),
        (["build", "--batch_size=1000000000"], 2, "batch_size is 1000000000"),
        (["build", "--workspace_size=4"], 2, "workspace_size is 4 KiB, expected at least 16 MiB"),
        (["build"], 2, "no model: give --model=FILE.onnx, or --random_weights=SEED"),
        (["build", "--model=none.onnx"], 3, "none.onnx does not exist"),
        (["build", "--model=."], 3, "is a folder"),
        (["build", "--random_weights=1", "--output_dir=/dev/null"], 4, "/dev/null is not a folder"),
        (["build", "--request=none.json"], 2, "cannot read request file none.json"),
        (["inspect", "none.plan"], 3, "none.json: No such file"),
    ],
)
def test_bad_input_gets_one_sentence_before_any_work(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert sentence in error_of(result)
    assert result.returncode == code
    assert files_below(tmp_path) == []


HOSTILE = [
    'a"b',
    "$(touch PWNED)",
    "`touch PWNED`",
    "back\\slash",
    "new\nline",
    "été ü 日本",
    "with  spaces",
    "semi;colon",
    "-dash",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values_are_just_values(tmp_path: Path, name: str) -> None:
    result = run("build", f"--model={name}", cwd=tmp_path)
    assert result.returncode == 3
    assert " ".join(f"model file {tmp_path}/{name} does not exist".split()) in error_of(result)
    assert files_below(tmp_path) == []


def test_output_folders_of_any_name(
    tensorrt_rtx: str, small_resnet50: Path, small: dict[str, str], tmp_path: Path
) -> None:
    name = 'out dir/été/q"uote/$(x)/new\nline'
    result = run(
        "build",
        f"--model={small_resnet50}",
        f"--output_dir={name}",
        "--verify=no",
        "--result=r.json",
        cwd=tmp_path,
        **small,
    )
    assert result.returncode == 0, result.stderr
    engine = json.loads((tmp_path / "r.json").read_text())["engine"]
    assert engine.startswith(f"{tmp_path}/{name}/portable/resnet50/Offline/")
    assert Path(engine).is_file()


def test_build_inspect_and_reuse(tensorrt_rtx: str, resnet50_file: Path, tmp_path: Path) -> None:
    line = ["build", f"--model={resnet50_file}", "--batch-size", "4", "--result=r.json"]
    first = run(*line, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert re.search(r"^  batch_size +4$", first.stdout, re.M)
    assert "built\n" in first.stdout
    assert all(f"{stage} done in" in first.stderr for stage in ("prepare", "build", "verify", "publish"))
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["exports"]["REUSED"] == "no"
    assert result["exports"]["FILE_WITH_PATH"] == result["engine"]
    second = run(*line, cwd=tmp_path)
    assert "reused\n" in second.stdout
    assert json.loads((tmp_path / "r.json").read_text())["exports"]["REUSED"] == "yes"
    shown = run("inspect", result["engine"], cwd=tmp_path).stdout
    assert re.search(r"^  verdict +passed$", shown, re.M)
    assert re.search(r"^  workspace_size +4 GiB$", shown, re.M)
    assert not re.search(r" +None$", shown, re.M)
    assert "unchanged since it was published" in shown
    raw = run("inspect", result["engine"], "--json", cwd=tmp_path).stdout
    assert raw == Path(result["manifest"]).read_text()
    Path(result["engine"]).write_bytes(b"x")
    for flags in ([], ["--json"]):
        altered = run("inspect", result["engine"], *flags, cwd=tmp_path)
        assert altered.returncode == 3
        assert "truncated or edited" in error_of(altered)
        assert "fingerprint" in altered.stdout or "verdict" in altered.stdout, "the manifest is shown all the same"
    Path(result["manifest"]).write_text("{}")
    assert "is not a manifest of cmx4trt" in error_of(run("inspect", result["engine"], cwd=tmp_path))


def test_request_file_and_flags(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text(
        json.dumps({"batch_size": 3, "random_weights": 1, "workspace_size": 1 << 30})
    )
    result = run("build", "--request=request.json", "--batch_size=5", "--dry_run", cwd=tmp_path)
    assert re.search(r"^  batch_size +5$", result.stdout, re.M)
    assert re.search(r"^  workspace_size +1 GiB$", result.stdout, re.M)
    assert "would build" in result.stdout
    assert files_below(tmp_path) == ["request.json"]


def test_errors_go_into_the_result_file(tmp_path: Path) -> None:
    run("build", "--model=none.onnx", "--result=r.json", cwd=tmp_path)
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["exit_code"] == 3
    assert "does not exist" in result["error"]


def test_without_tensorrt_rtx_it_says_what_to_install(tmp_path: Path) -> None:
    """A module search path that has this package but not the library."""
    code = (
        f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [{str(REPOSITORY)!r}];"
        "from cmx4trt.cli import main; sys.exit(main(['build', '--random_weights=1']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 5
    assert pip_line("rtx") in error_of(result)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("sent", "delay"), [(signal.SIGINT, 0.0), (signal.SIGINT, 0.3), (signal.SIGTERM, 0.1), (signal.SIGKILL, 0.1)]
)
def test_interruptions_leave_nothing_and_the_next_run_works(
    tensorrt_rtx: str, resnet50_file: Path, tmp_path: Path, sent: signal.Signals, delay: float
) -> None:
    line = ["build", f"--model={resnet50_file}", "--precision=fp32", "--copy_streams=8", "--verify=no"]
    process = start(*line, cwd=tmp_path)
    assert process.stderr is not None
    for text in process.stderr:
        if "build ..." in text:
            break
    time.sleep(delay)
    process.send_signal(sent)
    _, err = process.communicate(timeout=120)
    if sent is signal.SIGKILL:
        assert process.returncode == -9
    else:
        assert process.returncode == 130
        assert "cmx4trt: error: interrupted; no engine was published" in err
        assert "Traceback" not in err
    left = files_below(tmp_path)
    assert all(name.endswith(".plan.lock") for name in left if sent is signal.SIGKILL), left
    assert not left or sent is signal.SIGKILL
    again = run(*line, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert [Path(name).suffix for name in files_below(tmp_path)] == [".json", ".plan", ".html"]


def test_two_at_once_both_end_right(
    tensorrt_rtx: str, small_resnet50: Path, small: dict[str, str], tmp_path: Path
) -> None:
    both = [
        start("build", f"--model={small_resnet50}", f"--result={i}.json", "--verify=no", cwd=tmp_path, **small)
        for i in (1, 2)
    ]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    results = [json.loads((tmp_path / f"{i}.json").read_text()) for i in (1, 2)]
    assert results[0]["exports"]["SHA256"] == results[1]["exports"]["SHA256"]
    assert "unchanged since" in run("inspect", results[0]["engine"], cwd=tmp_path).stdout
    assert [Path(f).suffix for f in files_below(tmp_path / "engines")] == [".json", ".plan", ".html"]


def test_a_reader_that_goes_away_is_no_success(tmp_path: Path) -> None:
    """As `cmx4trt build … | true` sees it: no engine, and no exit code 0."""
    process = start("build", "--random_weights=1", cwd=tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) == EXIT_PIPE_CLOSED
    with process.stderr as stream:
        assert stream.read() == ""
    assert files_below(tmp_path) == []
