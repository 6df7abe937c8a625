"""The page in a real browser, with the real cmr behind it.

CMX4TRT_PICTURES=FOLDER keeps the screenshots that docs/how-to/gui.md shows.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 375, "height": 812}
SECOND = 1000.0
"""In Playwright's milliseconds."""
LIMIT = 60.0
"""Seconds after which the page hangs; a build may take longer."""
BUILD_LIMIT = 300 * SECOND
PICTURES = "CMX4TRT_PICTURES"
_MARK = "GUI_TEST_FOLDER"
"""Environment key by which a page's processes are known."""

for module, reason in {
    "streamlit": "Streamlit is not installed (pip install 'cmx4trt[gui]')",
    "playwright": "Playwright is not installed (pip install playwright)",
    "cmx4mlops": "CM's script automation is not installed (pip install cmx4mlops)",
}.items():
    if importlib.util.find_spec(module) is None:
        pytest.skip(reason, allow_module_level=True)


@dataclass(frozen=True)
class Site:
    """A running page, the folder it was started in, the environment of a shell there, and its process."""

    address: str
    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def typed(self, line: str) -> subprocess.CompletedProcess[str]:
        """A line as a user types it in a shell, in the folder of the page."""
        return subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT * 3,
            check=False,
        )


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory, small_environment: dict[str, str]) -> dict[str, str]:
    """Of a user whose CM runs this clone's scripts, as ``cmx4trt cm-setup`` leaves it. ResNet-50 is small, except in pictures."""
    home = tmp_path_factory.mktemp("gui-home")
    scripts = home / "repos" / "local" / "script"
    scripts.mkdir(parents=True)
    (scripts / "cmx4trt-generate-nvidia-engine").symlink_to(ROOT)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CM_", "CMX4TRT_", "PYTHONPATH"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    network = {} if PICTURES in os.environ else small_environment
    made = {**kept, **network, "CM_REPOS": str(home), "HOME": str(home), "PATH": path}
    subprocess.run(["cm", "find", "script", "detect-os"], env=made, cwd=home, check=True, capture_output=True)
    return made


def answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(address, timeout=5):
        return True
    return False


@pytest.fixture(scope="module")
def serve(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """Starts ``cmx4trt gui`` in a fresh folder; at the end Ctrl-C must end it with everything it started."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*flags: str) -> Site:
        scratch = tmp_path_factory.mktemp("gui")
        # A picture shows the folder: one that looks like a user's.
        folder = Path("/home/user/mlperf") if PICTURES in os.environ and not started else scratch / "typed here"
        folder.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "cmx4trt", "gui", "--no_browser", f"--port={port}", *flags]
        paths = ":".join((str(ROOT), environment.get("PYTHONPATH", ""))).rstrip(":")
        server_environment = {**environment, "PYTHONPATH": paths, _MARK: str(folder)}
        with (scratch / "server.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=folder, env=server_environment, stdout=log, stderr=log, start_new_session=True
            )
        started.append(process)
        printed = re.compile(rf"^  page +(http://127\.0\.0\.1:{port}/\S+)/$", re.MULTILINE)
        deadline = time.monotonic() + LIMIT
        while not (said := printed.search((scratch / "server.log").read_text())) or not answers(
            f"{said[1]}/_stcore/health"
        ):
            assert process.poll() is None, (scratch / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return Site(said[1], folder, environment, process)

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 130
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)


def processes_of(site: Site) -> list[str]:
    """The page's process and all that came of it: they inherit its environment."""
    mark = f"{_MARK}={site.folder}\0".encode()
    return [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit() and mark in environment_of(entry)]


def files_of(site: Site) -> list[Path]:
    """Without locks: whoever holds one when it ends leaves it behind, free."""
    return sorted(path for path in site.folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def environment_of(process: Path) -> bytes:
    with suppress(OSError):
        return (process / "environ").read_bytes()
    return b""


@pytest.fixture(scope="module")
def site(serve: Callable[..., Site]) -> Site:
    return serve()


class Page:
    """What a person does on the page. Its parts come when each has been loaded: whatever is read here is waited for."""

    def __init__(self, page: Any, site: Site) -> None:
        self.page, self.site = page, site
        self.foreign: list[str] = []
        page.set_default_timeout(LIMIT * SECOND)
        page.on("request", lambda request: self.foreign.append(request.url))
        page.goto(site.address)
        self.button(r"Build|Run").wait_for()

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=re.compile(f"(^| )({name})$"))

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < deadline
            self.page.wait_for_timeout(SECOND / 10)

    def choose(self, text: str) -> None:
        self.page.get_by_text(text, exact=True).click()

    def fill(self, label: str, text: str) -> None:
        box = self.page.get_by_role("textbox", name=label, exact=True)
        box.fill(text)
        box.press("Enter")

    def line(self) -> str:
        """The command as it is shown."""
        return str(self.page.get_by_test_id("stCode").first.inner_text()).strip()

    def expect_line(self, line: str) -> None:
        pattern = re.compile(re.escape(line) + "$")
        self.page.get_by_test_id("stCode").first.filter(has_text=pattern).wait_for()

    def back(self) -> None:
        """To the form; the run's own line is gone when its button is there."""
        self.button("Back to the form").click()
        self.button(r"Build|Run").wait_for()
        self.button("Back to the form").wait_for(state="detached")

    def error(self) -> str:
        box = self.page.get_by_test_id("stAlert").first
        box.wait_for()
        return str(box.inner_text()).strip()

    def requests_to_others(self) -> list[str]:
        return [url for url in self.foreign if not url.startswith((self.site.address, "data:", "blob:"))]

    def picture(self, name: str, whole: bool = True) -> None:
        """Keep a screenshot where CMX4TRT_PICTURES says so."""
        folder = os.environ.get(PICTURES)
        if not folder:
            return
        size = dict(self.page.viewport_size)
        if whole:
            height = self.page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
            self.page.set_viewport_size({**size, "height": int(height)})
        self.page.mouse.move(0, 0)
        time.sleep(1)  # transitions
        self.page.screenshot(path=os.path.join(folder, name))
        self.page.set_viewport_size(size)


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Page]]:
    """Opens a page of a site in a browser session of its own."""
    contexts: list[Any] = []

    def start(site: Site, size: dict[str, int] = DESKTOP) -> Page:
        contexts.append(chromium.new_context(viewport=size))
        return Page(contexts[-1].new_page(), site)

    yield start
    for context in contexts:
        context.close()


TAGS = "generate engine mlperf inference nvidia cmx4trt"
LONG_IMAGES = 50_000
LONG = f'cmr "{TAGS} _int8 _random-weights" \\\n  --calibration_data=random \\\n  --calibration_count={LONG_IMAGES}'
"""A build of half an hour: it is still going on when it is to be ended, however slow the browser is."""


def start_long_build(page: Page, images: int = LONG_IMAGES) -> None:
    """``images``: others make another engine; the same one would wait for the build that goes on."""
    page.choose("int8")
    page.choose("Random weights")
    page.fill("Calibration data", "random")
    page.fill("Calibration count", str(images))
    page.expect_line(LONG.replace(str(LONG_IMAGES), str(images)))
    page.button("Build").click()
    page.page.get_by_text("calibrate …").wait_for()
    signal_builds(page.site, signal.SIGSTOP)  # it would keep all processors busy; to the page it goes on


def signal_builds(site: Site, number: signal.Signals) -> None:
    """To the processes of the page that build; SIGCONT before they are to end by themselves."""
    for name in processes_of(site):
        with suppress(OSError):
            if b"cmx4trt\0build" in Path("/proc", name, "cmdline").read_bytes():
                os.kill(int(name), number)


def test_the_line_follows_every_choice(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(site)
    page.expect_line(f'cmr "{TAGS}"')
    page.choose("retinanet")
    page.expect_line(f'cmr "{TAGS} _retinanet"')
    page.page.get_by_text("Only with retinanet").first.wait_for()
    page.choose("fp16")
    page.fill("Batch size", "4")
    page.choose("Random weights")
    page.expect_line(f'cmr "{TAGS} _retinanet _fp16 _batch_size.4 _random-weights"')
    page.fill("Output dir", "my engines")
    page.expect_line(f"cmr \"{TAGS} _retinanet _fp16 _batch_size.4 _random-weights\" \\\n  --output_dir='my engines'")
    page.picture("gui-desktop.png")
    page.choose("cuda")
    page.page.get_by_text("Automatic means common-code").wait_for()
    assert page.requests_to_others() == []


def test_on_a_phone(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(site, PHONE)
    boxes = page.page.get_by_test_id("stRadio")
    page.until(lambda: boxes.count() == 4)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for box in (box.bounding_box() for box in boxes.all()):
        assert box["x"] + box["width"] <= PHONE["width"]
    page.choose("retinanet")
    page.expect_line(f'cmr "{TAGS} _retinanet"')
    page.picture("gui-phone.png")


def test_bad_input_is_answered_in_the_words_of_cmr(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(site)
    page.choose("Random weights")
    page.fill("Batch size", "0")
    page.expect_line(f'cmr "{TAGS} _batch_size.0 _random-weights"')
    typed = site.typed(page.line())
    (sentence,) = re.findall(r"^CM error: (.*)!$", typed.stdout, re.MULTILINE)
    page.button("Build").click()
    assert page.error() == f"{sentence} (exit code {typed.returncode})"
    assert typed.returncode == 2
    assert "Traceback" not in page.page.content()
    page.picture("gui-error.png")
    page.back()
    page.expect_line(f'cmr "{TAGS} _batch_size.0 _random-weights"')


def test_what_a_shell_would_execute_is_refused(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(site)
    page.fill("Output dir", "$(touch PWNED)")
    assert page.error().startswith("--output_dir contains a dollar sign, which the shell that CM starts would execute")
    page.until(lambda: page.button("Build").count() == 0)
    page.fill("Output dir", "good")
    page.button("Build").wait_for()
    assert not list(site.folder.rglob("PWNED"))


def test_two_people_do_not_see_each_others_runs(site: Site, open_page: Callable[..., Page]) -> None:
    one, two = open_page(site), open_page(site)
    one.choose("Random weights")
    one.fill("Batch size", "0")
    one.expect_line(f'cmr "{TAGS} _batch_size.0 _random-weights"')
    one.button("Build").click()
    assert "batch_size is 0" in one.error()
    two.expect_line(f'cmr "{TAGS}"')
    two.fill("Copy streams", "99")
    two.expect_line(f'cmr "{TAGS} _copy_streams.99"')
    two.button("Build").click()
    assert "copy_streams is 99" in two.error()
    one.page.reload()  # its own run again, not the last one
    assert "batch_size is 0" in one.error()
    two.page.goto(site.address + "/?run=guessed")
    two.button("Build").wait_for()


def test_stop(site: Site, open_page: Callable[..., Page], tensorrt_rtx: str) -> None:
    before = files_of(site)
    page = open_page(site)
    start_long_build(page)
    page.page.reload()
    signal_builds(site, signal.SIGCONT)
    page.button("Stop").click()
    assert page.error().startswith("Stopped: interrupted")
    assert files_of(site) == before
    page.back()  # to a form that the reloaded page has never filled in
    page.expect_line(LONG)


def test_the_form_of_a_reloaded_run(site: Site, open_page: Callable[..., Page]) -> None:
    """Every kind of field comes back, and can be changed as before."""
    page = open_page(site)
    page.choose("retinanet")
    page.choose("fp16")
    page.fill("Batch size", "0")
    page.choose("Random weights")
    page.fill("Random weights, value", "7")
    page.fill("Target", "ada")
    page.expect_line(f'cmr "{TAGS} _retinanet _fp16 _batch_size.0 _random-weights.7" \\\n  --target=ada')
    page.page.get_by_role("combobox", name=re.compile("Scenario")).click()  # not before: a change would close the list
    page.page.get_by_role("option", name="Server", exact=True).click()
    line = f'cmr "{TAGS} _retinanet _fp16 _batch_size.0 _random-weights.7" \\\n  --scenario=Server \\\n  --target=ada'
    page.expect_line(line)
    page.button("Build").click()
    assert "batch_size is 0" in page.error()
    page.page.reload()
    assert "batch_size is 0" in page.error()
    page.back()
    page.expect_line(line)
    page.fill("Batch size", "4")
    page.choose("resnet50")
    page.expect_line(line.replace(" _retinanet", "").replace("_batch_size.0", "_batch_size.4"))


def test_dark(site: Site, chromium: Any) -> None:
    """Who prefers a dark page gets one that can be read: contrast of words at least 4.5, of other parts 3 (WCAG 2.2, AA)."""
    context = chromium.new_context(viewport=DESKTOP, color_scheme="dark")
    page = Page(context.new_page(), site)
    behind = colour(page.page.get_by_test_id("stApp"), "background-color")
    assert luminance(behind) < 0.05
    assert contrast(colour(page.page.get_by_test_id("stApp"), "color"), behind) > 4.5
    tabs = page.page.get_by_role("tab")
    page.until(lambda: tabs.count() == 2)
    page.until(lambda: all(contrast(colour(tab, "color"), behind) > 4.5 for tab in tabs.all()))  # our style comes late
    button = page.button("Build")
    green = colour(button, "background-color")
    assert contrast(colour(button, "color"), green) > 4.5
    assert contrast(green, behind) > 3
    context.close()


def colour(element: Any, name: str) -> tuple[float, ...]:
    """Red, green and blue, 0 to 1."""
    text = element.evaluate(f"e => getComputedStyle(e).getPropertyValue('{name}')")
    return tuple(int(part) / 255 for part in re.findall(r"\d+", text)[:3])


def luminance(rgb: tuple[float, ...]) -> float:
    """Relative luminance (WCAG 2.2)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def test_two_builds_at_a_time(serve: Callable[..., Site], open_page: Callable[..., Page], tensorrt_rtx: str) -> None:
    """The third click starts nothing, and leads to the runs that can be stopped; each shows that it goes on."""
    site = serve()
    pages = [open_page(site) for _ in range(3)]
    for images, page in zip((LONG_IMAGES, LONG_IMAGES - 1), pages[:2], strict=True):
        start_long_build(page, images)
        page.page.get_by_text(re.compile(r"calibrate … \d+ s")).wait_for()
    third = pages[2]
    third.choose("Random weights")
    third.expect_line(f'cmr "{TAGS} _random-weights"')
    third.button("Build").click()
    assert "2 runs are in progress" in third.error()
    runs = third.page.get_by_role("button", name=re.compile(r"The run started \d+ s ago"))
    assert runs.count() == 2
    runs.first.click()
    signal_builds(site, signal.SIGCONT)
    third.button("Stop").click()
    assert third.error().startswith("Stopped: interrupted")
    third.back()
    third.button("Build").wait_for()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_ends_the_page_ends_builds_too(
    serve: Callable[..., Site], open_page: Callable[..., Page], tensorrt_rtx: str, number: signal.Signals
) -> None:
    """Ctrl-C, and a terminal that is closed."""
    site = serve()
    start_long_build(open_page(site))
    assert len(processes_of(site)) >= 3  # the page, cmr, the build
    signal_builds(site, signal.SIGCONT)
    site.process.send_signal(number)
    assert site.process.wait(LIMIT) == 130
    assert processes_of(site) == []
    assert files_of(site) == []


@pytest.mark.slow
def test_build_and_read_its_report(site: Site, open_page: Callable[..., Page], tensorrt_rtx: str) -> None:
    page = open_page(site)
    page.choose("fp16")
    page.fill("Batch size", "4")
    page.choose("Random weights")
    page.expect_line(f'cmr "{TAGS} _fp16 _batch_size.4 _random-weights"')
    line = page.line()
    page.button("Build").click()
    page.page.get_by_text("The engine was built.").wait_for(timeout=BUILD_LIMIT)
    engine = next((site.folder / "engines").rglob("*.plan"))
    assert engine.name == "resnet50-Offline-gpu-b4-fp16.tensorrt-rtx.plan"
    assert json.loads(engine.with_suffix(".json").read_text())["engine"]["bytes"] == engine.stat().st_size
    page.page.get_by_role("cell", name=str(engine)).wait_for()
    assert engine.with_suffix(".report.html").is_file()
    report = page.page.frame_locator("iframe[title^='Report of']")
    report.get_by_text("FP16").first.wait_for()
    assert report.locator("h1").inner_text().endswith(", FP16, batch 4")
    page.picture("gui-run-desktop.png")
    assert page.requests_to_others() == []

    page.page.get_by_role("tab", name="Engines").click()
    page.page.get_by_text(re.compile("for portable · .* [kM]B · verified")).first.wait_for()

    typed = site.typed(line)
    assert typed.returncode == 0, typed.stdout
    assert "reused" in typed.stdout
    assert str(engine) in typed.stdout


def test_another_script(serve: Callable[..., Site], open_page: Callable[..., Page]) -> None:
    """Form, line and run of a script that is not ours; it has no engines."""
    site = serve("--script=detect,os")
    page = open_page(site)
    page.expect_line('cmr "detect os"')
    page.button("Run").click()
    page.page.get_by_text("Done. See the log above for the results.").wait_for()
    page.page.get_by_text("CM_HOST_OS_TYPE").first.wait_for()
    assert page.page.get_by_role("tab").count() == 0


def test_no_run(serve: Callable[..., Site], chromium: Any) -> None:
    site = serve("--no_run", "--title=Read me", "--script=generate engine mlperf inference nvidia cmx4trt,_retinanet")
    page = chromium.new_page()
    page.goto(site.address)
    page.get_by_text("Read me").first.wait_for(timeout=LIMIT * SECOND)
    page.get_by_test_id("stCode").get_by_text(f'cmr "{TAGS} _retinanet"').wait_for(timeout=LIMIT * SECOND)
    assert page.get_by_role("button", name="Build", exact=True).count() == 0
    page.close()
    shutil.rmtree(site.folder)
