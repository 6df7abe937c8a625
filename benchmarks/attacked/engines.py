"""What lies beside an engine, or is given to build one."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

from attacked.base import Kind, sha256_of
from cmx4trt.backends.hopper.choices import Choices, Table, choices_of
from cmx4trt.cli.build import _read_request
from cmx4trt.errors import CmxError
from cmx4trt.networks import spec_of
from cmx4trt.pipeline.published import read_published
from cmx4trt.report.facts import facts_of_engine
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store.manifest import Manifest

RESNET = spec_of("resnet50")


class ManifestFile(Kind):
    """A manifest: shown, used for a report, and read to run its engine."""

    def __init__(self, folder: Path) -> None:
        engine = folder / "e.plan"
        engine.write_bytes(b"an engine")
        self.path = folder / "e.json"
        request = BuildRequest.from_values({"random_weights": 1})
        network = {"title": RESNET.title, "outputs": [{"name": "logits", "dtype": "float", "shape": ["N", 1000]}]}
        layer = {"name": "conv", "op": "Conv", "precision": "fp16", "shape": [64, 112, 112], "input_scale": 0.5}
        sizes = {"macs": 118013952, "weight_bytes": 18816, "activation_bytes": 1605632}
        graph = {"message_sha256": "0" * 64, "layers": [{**layer, **sizes}], "constant_bytes": 5, "quantization": None}
        manifest = Manifest.from_dict(
            {
                "fingerprint": "f" * 64,
                "parts": {"builder.name": "tensorrt-rtx", "source": "seed:1"},
                "engine": {"file": "e.plan", "bytes": 9, "sha256": sha256_of(b"an engine")},
                "request": request.to_dict(),
                "source": {"kind": "random-weights", "seed": 1},
                "network": network,
                "builder": {"name": "tensorrt-rtx", "version": "1.7.1", "warnings": []},
                "graph": graph,
                "verification": {"verdict": "passed", "method": "m", "relative_l2": 1e-6},
                "execution": {"engine_executed_on_a_device": "no"},
                "stages": {"build": 1.5},
                "created": "2026-01-01T00:00:00+00:00",
                "tool": {"cmx4trt": "0.1.0", "python": "3.11"},
            }
        )
        self.path.write_text(manifest.to_json())

    def read(self) -> Any:
        from cmx4trt.cli import main

        facts = facts_of_engine(str(self.path))
        facts.to_dict()
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            codes = [main(["inspect", str(self.path)]), main(["report", "--json", str(self.path)])]
        assert set(codes) <= {0, 3}, f"exit codes {codes}"
        return out.getvalue(), read_published(str(self.path))

    def check(self, content: bytes, value: Any) -> None:
        text, engine = value
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text), "commands a terminal"
        written = json.loads(content)
        assert written["engine"]["sha256"] == sha256_of(b"an engine")
        assert engine.request.batch_size == int(written["request"]["batch_size"])

    def names_file(self, sentence: str) -> bool:
        return str(self.path.parent) in sentence  # or names the engine that it describes


class RequestFile(Kind):
    """The options of a build."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "request.json"
        self.path.write_text(json.dumps(BuildRequest.from_values({"random_weights": 1, "batch_size": 16}).to_dict()))

    def read(self) -> Any:
        values = _read_request(str(self.path))
        try:
            return BuildRequest.from_values(values)
        except CmxError as error:  # the conflict could be with a flag, so the error names options
            raise type(error)(f"{self.path}: {error}") from error

    def check(self, content: bytes, value: Any) -> None:
        written = json.loads(content)
        assert value.batch_size == int(written.get("batch_size") or 1)


class KernelChoices(Kind):
    """The table of measured kernels that cmx4trt tune writes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "kernels.json"
        rows = {
            "classifier 2048->1000": {"streamed-128-6": 0.5, "split-2": 0.25},
            "3x3/1 128->128 at 28": {"halo": 0.125},
        }
        self.path.write_text(Choices("NVIDIA H100", {1: Table(rows), 64: Table(rows)}).to_json())

    def read(self) -> Any:
        return choices_of(str(self.path))

    def check(self, content: bytes, value: Any) -> None:
        written = json.loads(content.decode())
        assert {int(batch): table for batch, table in written["milliseconds"].items()} == {
            batch: table.milliseconds for batch, table in value.tables.items()
        }
        assert [last for _, last, _ in value.ranges(4096)][-1] == 4096
        for table in value.tables.values():
            assert all(0 <= ms < float("inf") for row in table.milliseconds.values() for ms in row.values())
