"""What a build gives back: for people, and for the next script."""

from __future__ import annotations

from dataclasses import dataclass

from cmx4trt.backends.facts import Measurement
from cmx4trt.store.manifest import Manifest


@dataclass(frozen=True, slots=True)
class BuildResult:
    """Where the engine and its manifest lie, and whether they were there before (``reused``); ``report``: its path or empty."""

    engine: str
    manifest_path: str
    manifest: Manifest
    reused: bool
    report: str = ""

    def rows(self) -> list[tuple[str, str]]:
        """The outcome for people: what lies where, and how far it is proven."""
        engine, verification = self.manifest.engine, self.manifest.verification
        measured = Measurement.from_record(self.manifest.execution)
        return [
            ("engine", self.engine),
            ("manifest", self.manifest_path),
            *([("report", self.report)] if self.report else []),
            ("size", f"{engine['bytes'] / 1e6:.1f} MB"),
            ("sha256", str(engine["sha256"])),
            ("graph verified", str(verification.get("verdict"))),
            ("engine run on a device", str(self.manifest.execution.get("engine_executed_on_a_device"))),
            *([("speed", measured.sentence())] if measured else []),
        ]

    def exports(self) -> dict[str, str]:
        """The outcome for the next script: CM exports each as CM_MLPERF_ENGINE_<key>."""
        request = self.manifest.request
        return {
            "FILE_WITH_PATH": self.engine,
            "MANIFEST_WITH_PATH": self.manifest_path,
            "REPORT_WITH_PATH": self.report,
            "SHA256": str(self.manifest.engine["sha256"]),
            "BYTES": str(self.manifest.engine["bytes"]),
            "MODEL": str(request["network"]),
            "PRECISION": str(request["precision"]),
            "BATCH_SIZE": str(request["batch_size"]),
            "COPY_STREAMS": str(request["copy_streams"]),
            "SCENARIO": str(request["scenario"]),
            "BUILDER": str(request["builder"]),
            "BUILDER_VERSION": str(self.manifest.builder["version"]),
            "TARGET": str(request["target"]),
            "VERIFIED": "yes" if self.manifest.verified else "no",
            "REUSED": "yes" if self.reused else "no",
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request would do: ``reused``: its engine is there already; None: only the builder's own code could tell."""

    engine: str
    builder: str
    source: str
    reused: bool | None

    @property
    def title(self) -> str:
        """What would be done, in words."""
        if self.reused is None:
            return "would build, or reuse if NVIDIA's code, which a dry run does not start, is as it was"
        return "already built" if self.reused else "would build"

    def rows(self) -> list[tuple[str, str]]:
        """The plan for people."""
        return [("engine", self.engine), ("builder", self.builder), ("source", self.source)]
