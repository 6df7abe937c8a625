"""Published engines to report on: their manifests are real, their engines are a few bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.bench.results import save_result
from cmx4trt.store import folder as store
from cmx4trt.store.results import BenchResult


@pytest.fixture(scope="session")
def _published(publish_small: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_small(tmp_path_factory.mktemp("published"), batch_size=2)


class Published:
    """An engine file and its manifest, to be changed at will."""

    def __init__(self, engine: Path) -> None:
        self.engine = engine
        self.manifest_path = engine.with_suffix(".json")
        self.page = Path(store.report_path_of(str(engine)))

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads(self.manifest_path.read_text())

    def edit(self, **parts: Any) -> None:
        """Update the manifest's parts; a dictionary is merged, anything else replaces what is there."""
        manifest = self.manifest
        for name, value in parts.items():
            manifest[name] = {**manifest[name], **value} if isinstance(value, dict) else value
        self.manifest_path.write_text(json.dumps(manifest))

    def drop(self, part: str, *names: str) -> None:
        manifest = self.manifest
        for name in names:
            manifest[part].pop(name, None)
        self.manifest_path.write_text(json.dumps(manifest))

    def copy(self, name: str, **parts: Any) -> Published:
        """Another engine beside this one."""
        other = Published(self.engine.with_name(f"{name}.plan"))
        shutil.copy(self.engine, other.engine)
        shutil.copy(self.manifest_path, other.manifest_path)
        other.edit(**parts, engine={"file": other.engine.name})
        return other

    def make_int8(self) -> None:
        """The manifest of an INT8 engine: as if every convolution were quantized."""
        graph = self.manifest["graph"]
        for layer in graph["layers"]:
            if layer["op"].startswith("Conv"):
                layer.update(precision="int8", input_scale=0.03125)
        ranking = [{"layer": layer["name"], "share": 0.05, "gain_db": 0.22} for layer in graph["layers"][1:21]]
        quantization = {
            "origin": "images",
            "method": "mse",
            "samples": 16,
            "data_sha256": "d" * 64,
            "model_sha256": "e" * 64,
            "layers": 54,
            "quantized_layers": 53,
            "kept": ["fc1000"],
            "synthetic": True,
            "ranking": ranking,
        }
        measured = {"sqnr_db": {"logits": 41.5, "exact": None}, "limit_db": 10.0, "images": 16, "synthetic": True}
        agreement = {"agreement": 0.9375, "agreement_of": "classes", "float32_graph": self.manifest["verification"]}
        self.edit(
            request={"precision": "int8"},
            graph={**graph, "quantization": quantization},
            verification={**measured, **agreement, "verdict": "passed", "method": "INT8 against float32"},
        )

    def add_run(self, scenario: str = "Offline", **values: Any) -> Path:
        """A LoadGen result beside the engine."""
        folder = self.engine.with_suffix(".results") / scenario / "performance" / "run_1"
        folder.mkdir(parents=True)
        result = {
            "executed": "ONNX Runtime over the graph; no GPU",
            "status": "complete",
            "scenario": scenario,
            "mode": "performance",
            "folder": str(folder),
            "valid": True,
            "subject": {"engine sha256": self.manifest["engine"]["sha256"]},
            "metric": {"name": "samples_per_second", "value": 123.456, "unit": "samples/s"},
            "latency_ns": {"50.00": 1_000_000, "99.90": 2_500_000},
            "departures": {"min_duration_ms": {"used": 10000, "mlperf": 600000}},
        }
        save_result(BenchResult.from_dict({**result, **values}))
        return folder / "cmx4trt_result.json"


@pytest.fixture
def published(_published: Path, tmp_path: Path) -> Published:
    """ResNet-50 in float16, batch 2, verified, with random weights."""
    for path in (_published, _published.with_suffix(".json")):
        shutil.copy2(path, tmp_path / path.name)
    found = Published(tmp_path / _published.name)
    found.edit(request={"report": True})
    return found


VOID = {"meta", "br", "hr", "input", "link", "col", "img"}


class Page(HTMLParser):
    """A page taken apart: text by element, attributes, and whether all elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], "elements are left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data
            for tag in set(self.open):
                self.texts.setdefault(tag, []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def page_of() -> Callable[[Path], Page]:
    return lambda path: Page(path.read_text(encoding="utf-8"))
