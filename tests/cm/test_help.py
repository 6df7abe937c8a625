"""``cmr … --help`` and ``-h``: complete, and nothing is built or fetched."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmx4trt.cm.hooks import CM
from cmx4trt.frameworks.help import EXAMPLES, help_text
from cmx4trt.requests.evaluation_options import CM_OPTIONS, VERIFY_OPTIONS
from cmx4trt.requests.options import build_options

ROOT = Path(__file__).resolve().parents[2]
TAGS = "generate engine mlperf inference nvidia"
COMMAS = TAGS.replace(" ", ",")
CALLS = {
    "cmr": ("cmr", TAGS),
    "cm run script": ("cm", "run", "script", f"--tags={COMMAS}"),
    "alias": ("cm", "run", "script", "generate-nvidia-engine"),
}


@pytest.fixture(scope="module")
def meta() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "_cm.yaml").read_text(encoding="utf-8"))
    return loaded


def ask(cm: Any, call: str, flag: str, cwd: Path, answer: str | None = "n\n") -> subprocess.CompletedProcess[str]:
    """Standard output and error apart; ``answer`` None ends standard input at once."""
    name, *words = CALLS[call]
    program = shutil.which(name, path=str(Path(sys.executable).parent)) or name
    return subprocess.run(
        [program, *words, flag],
        cwd=cwd,
        env={**cm.environment, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        input=answer or "",
    )


def check_complete(text: str, meta: dict[str, Any]) -> None:
    """Every variation, and every input with its key, description, choices and default."""
    for name in meta["variations"]:
        assert f"\n  _{name}\n" in text
    for name, row in meta["input_description"].items():
        assert f"\n  --{name}  ->  --env.{meta['input_mapping'][name]}\n" in text
        assert f"\n  --{name}  ({row['desc']})\n" in text
        default = f"={row['default']}" if "default" in row else ""
        choices = "   {" + ",".join(row["choices"]) + "}" if "choices" in row else ""
        assert f"\n  --{name}{default}{choices}   ({row['desc']})\n" in text


@pytest.mark.parametrize("call", CALLS)
def test_help_is_complete(cm: Any, folder: Path, meta: dict[str, Any], call: str) -> None:
    """CM's own help, from _cm.yaml; its question at the end is answered."""
    done = ask(cm, call, "--help", folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    check_complete(done.stdout, meta)
    assert (
        'cmr "generate engine mlperf inference nvidia _retinanet _batch_size.4" --target=ada --dry_run=yes'
        in done.stdout
    )
    assert list(folder.iterdir()) == []


@pytest.fixture
def spied(cm: Any, tmp_path: Path) -> tuple[Any, Path]:
    """A CM home whose script notes when any Python of it runs."""
    note = tmp_path / "imported"
    script = tmp_path / "home" / "repos" / "local" / "script" / "spied"
    script.mkdir(parents=True)
    shutil.copy(ROOT / "_cm.yaml", script)
    shutil.copy(ROOT / "run.sh", script)
    (script / "customize.py").write_text(
        f"open({str(note)!r}, 'w').close()\n"
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from cmx4trt.cm.hooks import postprocess, predeps, preprocess\n"
    )
    return type(cm)(tmp_path / "home", {**cm.environment, "CM_REPOS": str(tmp_path / "home")}), note


def test_closed_input_ends_cm_help_before_any_code_of_ours_could_run(
    spied: tuple[Any, Path], folder: Path, meta: dict[str, Any]
) -> None:
    """CM asks a question after its help. It reads _cm.yaml alone before: we have no means to answer; all is shown by then."""
    cm, note = spied
    done = ask(cm, "cmr", "--help", folder, answer=None)
    check_complete(done.stdout, meta)
    assert not note.exists()
    assert done.returncode == 0 or "EOFError" in done.stderr  # 0: a CM that no longer asks
    ask(cm, "cmr", "-h", folder, answer=None)
    assert note.exists(), "the spy does not work"


@pytest.mark.parametrize("call", CALLS)
def test_short_help_needs_no_answer_and_runs_nothing(cm: Any, folder: Path, meta: dict[str, Any], call: str) -> None:
    done = ask(cm, call, "-h", folder, answer=None)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert help_text(CM, meta, 80) in done.stdout
    assert "Python API" not in done.stdout
    assert "detect" not in done.stderr, "a dependency ran"
    assert list(folder.iterdir()) == []


def test_short_help_comes_before_complaints(cm: Any, folder: Path) -> None:
    done = cm.cmr("_cpu", "--batchsize=3", "--model=missing.onnx", "-h", cwd=folder)
    assert done.returncode == 0
    assert "Examples" in done.stdout
    assert "error" not in done.stdout.lower()


def test_short_help_says_all_and_fits(meta: dict[str, Any]) -> None:
    text = help_text(CM, meta, 80)
    too_long = [line for line in text.splitlines() if len(line) > 80 and not line.startswith(("  cm", "Generate"))]
    assert too_long == []
    words = " ".join(text.split())
    for name, row in meta["input_description"].items():
        assert f"--{name}=" in text
        assert " ".join(row["desc"].split()) in words, name
    for name, row in meta["variations"].items():
        assert "," in name or f"    _{name.replace('#', 'N')}" in text
        assert " ".join(row.get("desc", "").split()) in words
    assert "Same as --batch_size=N" in text


@pytest.mark.parametrize(("purpose", "variations", "flags"), EXAMPLES)
def test_every_example_runs(
    cm: Any, rtx: None, folder: Path, resnet50_file: Path, purpose: str, variations: str, flags: str
) -> None:
    """As dry runs: what they name is understood."""
    (folder / "resnet50.onnx").symlink_to(resnet50_file)
    (folder / "cal.cache").write_text("TRT-80000-EntropyCalibration2\ninput: 3c010a14\n")
    before = sorted(folder.iterdir())
    words = [word for word in shlex.split(flags) if word != "--dry_run=yes"]
    done = cm.cmr(variations, *words, "--dry_run=yes", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "would build" in done.stdout
    assert sorted(folder.iterdir()) == before
    assert purpose


@pytest.mark.parametrize("option", [*build_options(), *CM_OPTIONS], ids=lambda option: option.name)
def test_descriptions_are_those_of_the_command_line(meta: dict[str, Any], option: Any) -> None:
    """One text for both, but for the variations that a CM line has beside the flag."""
    text = " ".join(meta["input_description"][option.name]["desc"].split())
    if option in CM_OPTIONS:
        evaluations = "_verify, _bench: " if option in VERIFY_OPTIONS else "_bench: "
        assert text.startswith(evaluations)
        text = text.removeprefix(evaluations)
    assert text.lower().startswith(option.help.lower())


def test_help_asked_from_python_builds_nothing_and_returns(cm: Any, folder: Path) -> None:
    """The program that asks must not be ended: the script is passed over."""
    call = f"import cmind; r = cmind.access({{'action': 'run', 'automation': 'script', 'tags': '{COMMAS}', 'h': True}})"
    words = [sys.executable, "-c", f"{call}; print('still here', r['return'])"]
    done = subprocess.run(words, cwd=folder, env=cm.environment, input="", capture_output=True, text=True, check=False)
    assert "still here 0" in done.stdout, done.stderr
    assert list(folder.iterdir()) == []
