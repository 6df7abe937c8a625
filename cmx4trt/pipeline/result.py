"""What a build gives back. ``exports``: for the next script."""

from __future__ import annotations

from cmx4trt.base.frozen import Frozen
from cmx4trt.store.manifest import Manifest


class BuildResult(Frozen):
    """Where the engine and its manifest lie, and whether they were there before (``reused``); ``report``: its path or empty."""

    engine: str
    manifest_path: str
    manifest: Manifest
    reused: bool
    report: str = ""

    def exports(self) -> dict[str, str]:
        """The outcome for the next script: CM exports each as CM_MLPERF_ENGINE_<key>."""
        request = self.manifest.request
        return {
            "FILE_WITH_PATH": self.engine,
            "MANIFEST_WITH_PATH": self.manifest_path,
            "REPORT_WITH_PATH": self.report,
            "SHA256": str(self.manifest.engine.sha256),
            "BYTES": str(self.manifest.engine.bytes),
            "MODEL": str(request.network),
            "PRECISION": str(request.precision),
            "BATCH_SIZE": str(request.batch_size),
            "COPY_STREAMS": str(request.copy_streams),
            "SCENARIO": str(request.scenario),
            "BUILDER": str(request.builder),
            "BUILDER_VERSION": self.manifest.builder.version,
            "TARGET": str(request.target),
            "VERIFIED": "yes" if self.manifest.verified else "no",
            "REUSED": "yes" if self.reused else "no",
        }


class Plan(Frozen):
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
