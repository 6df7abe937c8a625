"""The engines in a folder, as their manifests describe them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cmx4trt.base.typed import WrongRecordError
from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.errors import RequestError
from cmx4trt.store.folder import doubt_of_engine, engine_path_of, read_manifest, report_path_of
from cmx4trt.store.manifest import Manifest

MAX_ENGINES = 200
"""Number of engines shown of a folder, newest first."""

_VERDICTS = {PASSED: "verified", FAILED: "differs from the original model"}


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """A published engine: its path and its manifest."""

    engine: str
    manifest_path: str
    manifest: Manifest

    @classmethod
    def read(cls, manifest_path: str) -> EngineRecord:
        """The engine of a manifest. Raises OSError, ValueError."""
        manifest = read_manifest(manifest_path)
        return cls(engine_path_of(manifest_path, manifest), manifest_path, manifest)

    @property
    def report(self) -> str:
        """The path of its report, whether or not it exists."""
        return report_path_of(self.engine)

    def title(self) -> str:
        """Network, precision and batch in a few words."""
        request = self.manifest.request
        return f"{self.manifest.network.title} · {request.precision.upper()} · batch {request.batch_size}"

    def verdict(self) -> str:
        """The outcome of its verification, in words."""
        return _VERDICTS.get(self.manifest.verification.verdict, "not verified")

    def doubt(self) -> str:
        """Why the file is not the engine that was published; empty if it is."""
        return doubt_of_engine(self.manifest_path, self.manifest)

    def facts(self) -> list[tuple[str, str]]:
        """What readers want to know first."""
        manifest = self.manifest
        request, source = manifest.request, manifest.source
        weights = "random weights" if source.is_random else source.path or source.kind
        return [
            ("Network", f"{manifest.network.title}, {weights}"),
            ("Precision", request.precision.upper()),
            ("Batch", f"1 to {request.batch_size}"),
            ("For GPUs", request.target),
            ("Built with", f"{manifest.builder.name} {manifest.builder.version}"),
            ("Size", f"{manifest.engine.bytes / 1e6:.1f} MB"),
            ("Graph", self.verdict()),
            ("Run on a GPU", "yes" if manifest.ran_on_a_device else "not yet"),
            ("Created", manifest.created.replace("T", " ").replace("+00:00", " UTC")),
            ("File", self.engine),
        ]


def folder_from_text(text: str, start: str) -> str:
    """The folder that the user entered; a relative path is relative to ``start``. Raises RequestError."""
    if "\0" in text:
        raise RequestError("the name of the folder contains a NUL character, which is invalid in paths; type it again")
    return os.path.join(start, os.path.expanduser(text.strip()))


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of a folder, newest first, and a sentence about each manifest that was damaged or edited."""

    records: list[EngineRecord]
    damaged: list[str]


def engines_in(folder: str) -> Engines:
    """The engines in ``folder`` and below; none if there is no such folder. Raises RequestError.

    A ``.json`` file counts if it is a manifest and its engine is beside it.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise RequestError(f"{folder} is not a folder; give the folder in which engines were published")
    found: list[EngineRecord] = []
    damaged: list[str] = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in files:
            if name.endswith(".json") and f"{name[:-5]}.plan" in files:
                path = os.path.join(place, name)
                try:
                    record = EngineRecord.read(path)
                except WrongRecordError as error:
                    damaged.append(f"manifest {path} was damaged or edited ({error}); build the engine again")
                except (OSError, ValueError):  # not a manifest
                    continue
                else:
                    found += [record] if os.path.isfile(record.engine) else []
    newest = sorted(found, key=lambda record: record.manifest.created, reverse=True)[:MAX_ENGINES]
    return Engines(newest, damaged[:MAX_ENGINES])
