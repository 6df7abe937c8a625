"""The pictures of reports in docs/pictures: builds seven engines, benchmarks two of them, and takes pictures in Chromium.

    python benchmarks/report_pictures.py docs/pictures [--folder /home/user/engines]

The folder of the engines is shown in the pictures. Needs cmx4trt[rtx,bench] and Playwright, and a Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from cmx4trt.cli import main as cmx4trt
from cmx4trt.pipeline.build import build
from cmx4trt.requests.build import BuildRequest

ENGINES = (("fp32", 1), ("fp16", 1), ("fp16", 4), ("fp16", 16), ("bf16", 4), ("int8", 1), ("int8", 16))
"""Precision and batch size."""
BENCHMARKED = {("fp16", 1): ("SingleStream", 64), ("fp16", 4): ("Offline", 128)}
"""Scenario and number of samples: enough for a VALID result on two cores."""
WIDTH, HEIGHT = 1280, 3000
TOP = {"x": 60, "y": 0, "width": 1160, "height": 548}
"""Of the first report: title, figures and verification, for the README."""


def run(*words: str) -> None:
    """A command, which must succeed."""
    if code := cmx4trt(list(words)):
        sys.exit(f"{' '.join(words)} ended with exit code {code}")


def engine_of(folder: Path, precision: str, batch: int) -> Path:
    """The engine, built or reused, with its results."""
    values: dict[str, Any] = {
        "random_weights": 0,
        "precision": precision,
        "batch_size": batch,
        "output_dir": str(folder),
    }
    if precision == "int8":
        values |= {"calibration_data": "random"}
    engine = Path(build(BuildRequest.from_values(values)).engine)
    if (found := BENCHMARKED.get((precision, batch))) is not None:
        scenario, count = found
        run("bench", str(engine), "--execute=graph", f"--scenario={scenario}", f"--count={count}")
    return engine


def take(page: Any, report: Path, target: Path, clip: dict[str, int]) -> None:
    """A picture of a part of a report."""
    page.goto(report.as_uri())
    page.screenshot(path=str(target), clip=clip, full_page=True)
    print(f"{target}: {target.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    """Build, benchmark, take pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("/home/user/engines"))
    options = parser.parse_args()
    engines = [engine_of(options.folder, *one) for one in ENGINES]
    comparison = options.folder / "comparison.html"
    run("report", *map(str, engines), f"--html={comparison}")
    single = engines[1].with_suffix(".report.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        whole = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT}
        take(page, single, options.pictures / "report-resnet50-fp16-desktop.png", whole)
        take(page, single, options.pictures / "report-top.png", TOP)
        page.goto(comparison.as_uri())
        height = page.evaluate("document.documentElement.scrollHeight")
        take(page, comparison, options.pictures / "report-comparison-desktop.png", {**whole, "height": height})
        browser.close()


if __name__ == "__main__":
    main()
