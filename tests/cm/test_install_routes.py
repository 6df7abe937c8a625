"""Every way to install, and then the command line, CM (with an index made before and after) and MLCFlow: who answers?

Each route gets an environment of its own that sees the libraries of this one (symbolic links, nothing is downloaded) but no
other cmx4trt. Standard input is closed, or open and silent, so that a question of CM would end or hang the run.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TAGS = "generate engine mlperf inference nvidia"
COMMAS = TAGS.replace(" ", ",")
RUN_CMR = "import sys; from cmind.cli import run_script; sys.exit(run_script())"
RUN_MLCR = "import sys; from mlc.main import mlcr; sys.exit(mlcr())"
FRAMEWORKS = {"cm": ("cmind", "cmx4mlops"), "mlc": ("mlc", "mlcflow", "automation")}
"""Extra -> what it brings, as it is named in site-packages."""
UPSTREAM = "can't load Python module code"
"""How the draft of the same name in cmx4mlops ends."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("build") is None, reason="build is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed"),
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]


@dataclass(frozen=True)
class Place:
    """A Python environment, a CM home and a folder to type in."""

    python: Path
    environment: dict[str, str]
    folder: Path

    def run(self, *words: str, code: int | None = 0, cwd: Path | None = None) -> str:
        """Standard output and error of a Python command."""
        done = subprocess.run(
            [self.python, *words],
            cwd=cwd or self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout
        return done.stdout

    def pip(self, *words: str) -> None:
        self.run("-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", *words)

    def whose_gui(self) -> str:
        """'ours' or 'upstream': the script behind ``cmr "cm gui"``."""
        found = self.run("-m", "cmind", "find", "script", "--tags=cm,gui").splitlines()[-1]
        return "ours" if (Path(found) / "customize.py").read_text().count("cmx4trt.cm.gui") else "upstream"

    def command_line_builds(self) -> bool:
        """Whether ``cmx4trt build`` knows what it would build."""
        return "would build" in self.run("-m", "cmx4trt", "build", "--random_weights=0", "--dry_run")

    def mlc_builds(self) -> bool:
        """Whether ``mlcr`` runs our script, once the package's repository is registered."""
        self.run("-m", "mlc", "add", "repo", str(ROOT / "tests" / "data" / "mlc_repo"))
        assert "nothing" not in self.run("-m", "cmx4trt", "mlc-setup")
        text = self.run("-c", RUN_MLCR, f"{COMMAS},_random-weights", "--dry_run")
        (self.folder / ".mlc-log.txt").unlink()
        return "would build" in text

    def who_answers(self, tags: str = TAGS, stdin: str = "closed") -> str:
        """'ours' or 'upstream', else all that was printed."""
        process = subprocess.Popen(
            [self.python, "-c", RUN_CMR, tags, "--dry_run"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL if stdin == "closed" else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        text = process.stdout.read()  # standard input stays open and silent meanwhile
        process.communicate(timeout=120)
        if process.returncode == 0 and "would build" in text:
            return "ours"
        return "upstream" if UPSTREAM in text and "cmx4mlops" in text else text


@pytest.fixture(scope="session")
def archives(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with sdist and wheel; the wheel is made from the sdist."""
    folder = tmp_path_factory.mktemp("archives")
    words = ["-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run([sys.executable, *words], check=True, capture_output=True, timeout=300)
    return folder


def make_place(base: Path, without: tuple[str, ...] = ()) -> Place:
    """An environment without cmx4trt, and without the packages whose names begin with those."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(base / "venv")], check=True, timeout=120)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = base / "venv" / "lib" / version / "site-packages"
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("cmx4trt", "_cmx4trt", *without)) and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    folder = base / "typed here"
    folder.mkdir()
    environment = {"PATH": f"{base / 'venv' / 'bin'}:/usr/bin:/bin", "HOME": str(base), "CM_REPOS": str(base / "cm")}
    return Place(base / "venv" / "bin" / "python", {**environment, "MLC_REPOS": str(base / "mlc")}, folder)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An environment without cmx4trt, whose CM already has an index."""
    made = make_place(tmp_path)
    made.run("-m", "cmind", "find", "script", "detect-os")
    return made


def fresh(place: Place) -> Place:
    """The same environment with a CM home that nobody used yet."""
    return Place(
        place.python, {**place.environment, "CM_REPOS": place.environment["CM_REPOS"] + "-fresh"}, place.folder
    )


PIP_ROUTES: dict[str, Callable[[Path, Path], tuple[str, ...]]] = {
    "folder": lambda source, archives: (str(source),),
    "editable": lambda source, archives: ("-e", str(source)),
    "git": lambda source, archives: (f"git+file://{source}",),
    "wheel": lambda source, archives: (str(next(archives.glob("*.whl"))),),
    "sdist": lambda source, archives: (str(next(archives.glob("*.tar.gz"))),),
}


@pytest.mark.parametrize("route", ["folder", "git", "sdist"])
def test_a_route_installs_what_the_wheel_holds(tmp_path: Path, source: Path, archives: Path, route: str) -> None:
    """So what is shown of the wheel below holds of these, too."""
    place = make_place(tmp_path)
    place.pip(*PIP_ROUTES[route](source, archives))
    packages = next((place.python.parents[1] / "lib").glob("python*/site-packages"))
    installed = {path.relative_to(packages): path for path in (packages / "cmx4trt").rglob("*") if path.is_file()}
    with zipfile.ZipFile(next(archives.glob("*.whl"))) as wheel:
        held = {Path(name): wheel.read(name) for name in wheel.namelist() if name.startswith("cmx4trt/")}
    assert {name: path.read_bytes() for name, path in installed.items() if "__pycache__" not in name.parts} == held
    assert place.command_line_builds()


@pytest.mark.parametrize("route", ["editable", "wheel"])
def test_installed_by_pip(place: Place, source: Path, archives: Path, route: str) -> None:
    place.pip(*PIP_ROUTES[route](source, archives))
    assert place.command_line_builds()
    assert place.mlc_builds()
    new = fresh(place)
    assert (new.who_answers(), new.whose_gui()) == ("ours", "ours")
    # CM's index from before the installation still names the draft.
    assert (place.who_answers(), place.whose_gui()) == ("upstream", "upstream")
    assert "index rebuilt" in place.run("-m", "cmx4trt", "cm-setup")
    assert (place.who_answers(), place.whose_gui()) == ("ours", "ours")
    assert list(place.folder.iterdir()) == []


def test_nothing_asks_where_standard_input_stays_open(place: Place, archives: Path) -> None:
    place.pip(str(next(archives.glob("*.whl"))))
    assert [one.who_answers(stdin="open") for one in (fresh(place), place)] == ["ours", "upstream"]
    place.run("-m", "cmx4trt", "cm-setup")
    assert place.who_answers(stdin="open") == "ours"


@pytest.mark.parametrize("kept", ["", "cm", "mlc"])
def test_with_one_framework_or_none(tmp_path: Path, archives: Path, kept: str) -> None:
    """As after ``pip install cmx4trt``, with ``[cm]`` or with ``[mlc]``: the setup of the one that is missing has the command."""
    wheel = next(archives.glob("*.whl"))
    place = make_place(tmp_path, tuple(name for extra in {*FRAMEWORKS} - {kept} for name in FRAMEWORKS[extra]))
    place.pip(str(wheel))
    assert place.command_line_builds()
    assert kept != "mlc" or place.mlc_builds()
    assert kept != "cm" or place.who_answers() == "ours"
    for extra in {*FRAMEWORKS} - {kept}:
        assert f"run: pip install '{wheel}[{extra}]'" in place.run("-m", "cmx4trt", f"{extra}-setup", code=5)


def test_clone_registered_with_cm(place: Place, source: Path) -> None:
    """Without pip: CM looks into packages first, so the clone needs cm-setup, or its own tag; MLC takes the clone as it is."""
    place.run("-m", "cmind", "add", "repo", f"--path={source}")
    place.run("-m", "mlc", "add", "repo", str(ROOT / "tests" / "data" / "mlc_repo"))
    assert "detect-os" in place.run("-m", "cmx4trt", "mlc-setup", cwd=source)
    assert "would build" in place.run("-c", RUN_MLCR, f"{COMMAS},_random-weights", "--dry_run")
    (place.folder / ".mlc-log.txt").unlink()
    assert place.who_answers() == "upstream"
    assert place.who_answers(f"{TAGS} cmx4trt") == "ours"
    assert "linked" in place.run("-m", "cmx4trt", "cm-setup", cwd=source)
    assert place.whose_gui() == "ours"
    assert place.who_answers() == "ours"
    assert list(place.folder.iterdir()) == []


def test_own_tag_with_an_old_index(place: Place, archives: Path) -> None:
    """CM searches its repositories anew for a tag it does not know."""
    place.pip(str(next(archives.glob("*.whl"))))
    assert place.who_answers(f"{TAGS} cmx4trt") == "ours"


def test_setup_without_anything_to_do(place: Place, archives: Path) -> None:
    place.pip(str(next(archives.glob("*.whl"))))
    new = fresh(place)
    assert new.who_answers() == "ours"
    rows = new.run("-m", "cmx4trt", "cm-setup").splitlines()
    assert rows[0] == "cm-setup"
    assert [row.split()[0] for row in rows[1 : rows.index("next")]] == ["generate-nvidia-engine", "gui"]


def test_setup_says_when_it_failed(place: Place, archives: Path) -> None:
    """Here CM's local repository cannot be written: a file lies where its folder of scripts would be."""
    place.pip(str(next(archives.glob("*.whl"))))
    packages = place.python.parents[1] / "lib"
    module = next(packages.glob("python*/site-packages/cmx4trt/script/generate-nvidia-engine/_cm.yaml"))
    module.write_text(module.read_text().replace("- engine\n", ""))
    obstacle = Path(place.environment["CM_REPOS"]) / "repos" / "local" / "script"
    shutil.rmtree(obstacle, ignore_errors=True)
    obstacle.write_text("")
    text = place.run("-m", "cmx4trt", "cm-setup", code=4)
    assert "could not link" in text
    assert "Traceback" not in text
