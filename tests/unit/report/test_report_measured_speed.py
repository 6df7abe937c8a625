"""What a backend measured on a device stands where the estimate would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cmx4trt.devices.gpus import gpu_of_name
from cmx4trt.errors import ModelError
from cmx4trt.report.comparison import page_of_engines
from cmx4trt.report.facts import facts_of_engine
from cmx4trt.report.page import page_of_engine

RECORD = {"gpu": "NVIDIA H100 80GB HBM3", "batch": 1024, "milliseconds": 9.6, "watts": 690.0}


def unexpected(text: str) -> None:
    raise AssertionError(f"noted: {text}")


@pytest.fixture
def text_of(page_of: Callable[..., Any], tmp_path: Any) -> Callable[..., Any]:
    def text(page: str) -> Any:
        path = tmp_path / "page.html"
        path.write_text(page)
        return page_of(path)

    return text


def test_the_measurement_takes_the_place_of_the_estimate(published: Any, text_of: Callable[..., Any]) -> None:
    gpu = gpu_of_name("H100")
    before = text_of(page_of_engine(facts_of_engine(str(published.engine)), gpu, unexpected))
    assert "Estimated speed" in before.texts["h2"]
    published.edit(execution={"measured": RECORD})
    page = text_of(page_of_engine(facts_of_engine(str(published.engine)), gpu, unexpected))
    assert "Measured speed" in page.texts["h2"]
    assert "Estimated speed" not in page.texts["h2"]
    assert "Measured on NVIDIA H100 80GB HBM3. A batch of 1024 takes 9.6 ms: 106,667 images per second" in page.text
    assert "Estimates for all GPUs" in page.text, "for the other cards they are all there is"


def test_a_comparison_shows_it_beside_what_loadgen_found(published: Any, text_of: Callable[..., Any]) -> None:
    other = published.copy("other", execution={"measured": RECORD})
    engines = [facts_of_engine(str(one.engine)) for one in (published, other)]
    page = text_of(page_of_engines(engines, gpu_of_name("H100"), unexpected))
    assert "106,667 images/s" in page.text
    assert "on NVIDIA H100 80GB HBM3, without LoadGen" in page.text


def test_a_record_of_something_else_is_named(published: Any) -> None:
    published.edit(execution={"measured": {"gpu": "H100"}})
    with pytest.raises(ModelError, match=r"execution\.measured\.batch is missing"):
        facts_of_engine(str(published.engine))
