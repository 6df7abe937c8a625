"""Reports in a real browser: alone, narrow, dark, printed, sorted, without scripts.

CMX4TRT_PICTURES=FOLDER keeps pictures of what the tests look at.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.cli import main

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 812}
CONTRAST = 4.5
"""Least contrast of text against its ground (WCAG 2.2, success criterion 1.4.3, level AA)."""


@pytest.fixture(scope="module")
def pages(publish_small: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The report of a ResNet-50 engine with a long path and results, and the comparison of two."""
    folder = tmp_path_factory.mktemp("a folder with a name that no phone can show in one line without breaking it")
    engine = publish_small(folder)
    other = engine.with_name("other.plan")
    shutil.copy(engine, other)
    manifest = json.loads(engine.with_suffix(".json").read_text())
    manifest["engine"]["file"], manifest["request"]["batch_size"] = other.name, 16
    other.with_suffix(".json").write_text(json.dumps(manifest))
    found = {"single": folder / "single.html", "comparison": folder / "comparison.html"}
    assert main(["report", str(engine), f"--html={found['single']}"]) == 0
    assert main(["report", str(engine), str(other), f"--html={found['comparison']}"]) == 0
    return found


@pytest.fixture
def visit(chromium: Any, pages: Mapping[str, Path]) -> Iterator[Callable[..., Any]]:
    """Opens a page in a context of its own, off line; afterwards nothing may have been complained of or asked for."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def visit(name: str = "single", size: Mapping[str, int] = DESKTOP, **options: Any) -> Any:
        context = chromium.new_context(viewport=dict(size), offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith("file://") else complaints.append(asked.url))
        page.goto(pages[name].as_uri())
        keep_picture(page, f"{name}-{size['width']}-{options.get('color_scheme', 'light')}")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def keep_picture(page: Any, name: str) -> None:
    if folder := os.environ.get("CMX4TRT_PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.mark.parametrize("name", ["single", "comparison"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_runs_over_the_edge(visit: Callable[..., Any], name: str, size: Mapping[str, int]) -> None:
    page = visit(name, size)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    plot = page.locator(".plot svg").first.bounding_box()
    assert 0 < plot["width"] <= size["width"]
    assert plot["height"] > 100


def column(page: Any, number: int) -> list[str]:
    return page.locator(f"table.layers tbody tr > :nth-child({number})").all_inner_texts()


def numbers(texts: list[str]) -> list[float]:
    return [float(text.replace(",", "")) for text in texts]


def test_a_click_on_a_head_sorts(visit: Callable[..., Any]) -> None:
    page = visit()
    order = column(page, 2)
    head = page.locator("table.layers thead th").nth(5)
    assert head.inner_text().startswith("MFLOP")
    head.locator("button").click()
    work = numbers(column(page, 6))
    assert work == sorted(work, reverse=True)
    assert len(set(work)) > 3
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").press("Enter")
    assert numbers(column(page, 6)) == work[::-1]
    assert head.get_attribute("aria-sort") == "ascending"
    names = page.locator("table.layers thead th").first
    names.locator("button").click()
    shown = column(page, 1)
    assert shown == sorted(shown, key=lambda name: (name.lower(), name))
    assert head.get_attribute("aria-sort") is None
    page.locator("table.layers thead th").nth(1).locator("button").click()
    page.locator("table.layers thead th").nth(1).locator("button").click()
    assert column(page, 2) == order


COLOURS = """() => {
    const colour = (element, name) => getComputedStyle(element)[name];
    const text = (selector) => [...document.querySelectorAll(selector)].map((e) => colour(e, "color"));
    return {
        ground: colour(document.body, "backgroundColor"),
        texts: [...new Set(text("h1, p, caption, dt, small, figcaption, summary, .mark, td, th, footer"))],
        plot: colour(document.querySelector(".plot text"), "fill"),
        line: colour(document.querySelector(".plot path[style*='stroke: var(--fp16)']"), "stroke"),
    };
}"""


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of 'rgb(r, g, b)'."""
    parts = [int(part) / 255 for part in colour.split("(")[1].rstrip(")").split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_light_and_dark(visit: Callable[..., Any]) -> None:
    light, dark = (visit(color_scheme=scheme).evaluate(COLOURS) for scheme in ("light", "dark"))
    assert luminance(light["ground"]) > 0.9
    assert luminance(dark["ground"]) < 0.05
    for name in ("plot", "line"):
        assert light[name] != dark[name]
    for scheme in (light, dark):
        for text in (*scheme["texts"], scheme["plot"]):
            assert contrast(text, scheme["ground"]) >= CONTRAST, text
        assert contrast(scheme["line"], scheme["ground"]) >= 3  # graphics: WCAG 2.2, 1.4.11


def test_print_is_light_and_has_all_layers(visit: Callable[..., Any]) -> None:
    page = visit(color_scheme="dark")
    page.emulate_media(media="print")
    assert luminance(page.evaluate(COLOURS)["ground"]) > 0.9
    assert len(page.pdf(format="A4")) > 20_000
    table = page.locator("table.layers").bounding_box()
    assert table["height"] > 1000


def test_it_reads_without_scripts(visit: Callable[..., Any]) -> None:
    page = visit(java_script_enabled=False)
    assert page.locator("button").count() == 0
    assert page.locator("table.layers tbody tr").count() == 57
    page.locator("summary").first.click()
    assert page.locator("details[open]").count() == 1


def test_no_other_script_would_run(chromium: Any, pages: Mapping[str, Path], tmp_path: Path) -> None:
    """The policy in the page: were markup to slip in, it could do nothing."""
    edited = tmp_path / "edited.html"
    slipped = "<script>window.slipped = 1</script><img src=x onerror='window.slipped = 2'>"
    edited.write_text(pages["single"].read_text().replace("<main>", f"<main>{slipped}"))
    page = chromium.new_page()
    page.goto(edited.as_uri())
    assert page.evaluate("window.slipped") is None
    assert page.locator("table.layers button").count() == 11, "our own script runs"
    page.close()
