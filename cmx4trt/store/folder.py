"""The output folder as a store of engines: find one that fits, publish a new one. Any doubt is a miss."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cmx4trt.base.background import Background
from cmx4trt.base.digests import blake3_of_file, sha256_of_file
from cmx4trt.base.files import (
    LOCK_SUFFIX,
    OUTPUT_SETTING,
    check_place,
    encode_json,
    make_folder,
    open_file,
    open_text,
    remove_abandoned,
    write_together,
)
from cmx4trt.base.frozen import Frozen
from cmx4trt.base.locks import lock_folder, lock_work
from cmx4trt.base.progress import CHECK_ENGINE, Progress, Silent
from cmx4trt.base.typed import WrongRecordError
from cmx4trt.errors import ModelError
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store.fingerprint import fingerprint_of, fits
from cmx4trt.store.manifest import EngineFile, Manifest
from cmx4trt.store.naming import own_of, place_of


class EnginePaths(Frozen):
    """Where an engine and its manifest lie; NVIDIA's naming, below the output folder."""

    engine: str
    manifest: str

    @classmethod
    def of(cls, request: BuildRequest, parts: Mapping[str, Any]) -> EnginePaths:
        """Where the engine of ``parts`` belongs: no two different requests have the same path.

        ``<output_dir>/<place>/<model>/<Scenario>/<model>-<Scenario>-gpu-b<batch>-<precision>[-<own>].<builder>.plan``, and
        ``….json``; place and own: ``cmx4trt.store.naming``.
        """
        return cls._at(request, place_of(request, parts), own_of(request, parts))

    @classmethod
    def former(cls, request: BuildRequest) -> EnginePaths:
        """Where releases put it that named the engines of several requests alike."""
        return cls._at(request, request.target, "")

    @classmethod
    def _at(cls, request: BuildRequest, place: str, own: str) -> EnginePaths:
        folder = os.path.join(request.output_dir, place, request.network, request.scenario)
        plain = f"{request.network}-{request.scenario}-gpu-b{request.batch_size}-{request.precision}"
        stem = f"{plain}-{own}.{request.builder}" if own else f"{plain}.{request.builder}"
        return cls(os.path.join(folder, f"{stem}.plan"), os.path.join(folder, f"{stem}.json"))


UNCHANGED = "unchanged since it was published"
"""What is said of an engine that is the one its manifest describes."""


class Lookup(Frozen):
    """A hit (``manifest``), or why there is none; ``doubt`` is set where something lay there that cannot be trusted."""

    manifest: Manifest | None = None
    doubt: str = ""


def read_manifest(path: str) -> Manifest:
    """The manifest at ``path``. Raises OSError, ValueError."""
    with open_text(path) as stream:
        return Manifest.from_json(stream.read())


def manifest_path_of(path: str) -> str:
    """The manifest that belongs to an engine path; a manifest's path is its own."""
    return path if path.endswith(".json") else f"{os.path.splitext(path)[0]}.json"


def read_published_manifest(path: str) -> tuple[str, Manifest]:
    """Path and content of the manifest that belongs to an engine, for a person who named either. Raises ModelError."""
    manifest_path = manifest_path_of(path)
    try:
        return manifest_path, read_manifest(manifest_path)
    except OSError as error:
        raise ModelError(
            f"cannot read manifest {manifest_path}: {error.strerror}; give an engine that cmx4trt built"
        ) from error
    except WrongRecordError as error:
        raise ModelError(f"manifest {manifest_path} was damaged or edited ({error}); build the engine again") from error
    except ValueError as error:
        raise ModelError(
            f"{manifest_path} is not a manifest of cmx4trt ({error}); give an engine that cmx4trt built"
        ) from error


def engine_path_of(manifest_path: str, manifest: Manifest) -> str:
    """The engine that lies beside a manifest: whatever folders its record may name, the file is looked for there only."""
    return os.path.join(os.path.dirname(manifest_path), os.path.basename(manifest.engine.file))


def report_path_of(path: str) -> str:
    """The report that belongs to an engine path or a manifest's."""
    return f"{os.path.splitext(path)[0]}.report.html"


def doubt_of_engine(manifest_path: str, manifest: Manifest) -> str:
    """Why the engine beside a manifest is not the one that was published; empty if it is."""
    path = engine_path_of(manifest_path, manifest)
    return _check_engine(path, manifest, manifest.engine.sha256, sha256_of_file).doubt  # what people compare


def read_engine(manifest_path: str, manifest: Manifest) -> bytes:
    """The published engine beside a manifest, read once and compared with its digest. Raises ModelError where it is another."""
    path = engine_path_of(manifest_path, manifest)
    try:
        with open_file(path) as stream:
            data = stream.read()
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise ModelError(f"{_unreadable(path, error)}; build it again") from error
    if hashlib.sha256(data).hexdigest() != manifest.engine.sha256:
        raise ModelError(f"{_another(path)}; build it again")
    return data


def look_up(
    request: BuildRequest, parts: Mapping[str, Any], progress: Progress | None = None
) -> tuple[EnginePaths, Lookup]:
    """The published engine that fits ``parts``, which may lie where former releases put it; else the path where it belongs."""
    paths, former = EnginePaths.of(request, parts), EnginePaths.former(request)
    progress = progress or Silent()
    lookup = find(request, paths, parts, progress)
    if lookup.manifest is None and former != paths:
        earlier = find(request, former, parts, progress)
        if earlier.manifest is not None:
            return former, earlier
    return paths, lookup


def holds_engines(request: BuildRequest, parts: Mapping[str, Any]) -> bool:
    """Whether anything lies where an engine of these ``parts``, which may lack the model's, could be found."""
    places = {place_of(request, parts), request.target}
    return any(
        os.path.isdir(os.path.join(request.output_dir, place, request.network, request.scenario)) for place in places
    )


def find(request: BuildRequest, paths: EnginePaths, parts: Mapping[str, Any], progress: Progress) -> Lookup:
    """Whether what lies at ``paths`` is the engine of ``parts``."""
    if not os.path.lexists(paths.engine):
        return Lookup()
    try:
        manifest = read_manifest(paths.manifest)
    except (OSError, ValueError) as error:
        return Lookup(doubt=f"{paths.engine} has no readable manifest ({_reason(error)})")
    if not fits(manifest.parts, parts) or manifest.fingerprint != fingerprint_of(manifest.parts):
        return Lookup()
    if request.verify and not manifest.judged:
        return Lookup()
    with progress.stage(CHECK_ENGINE):
        return _check_fast(paths.engine, manifest)


@contextmanager
def building(paths: EnginePaths, wait: float, progress: Progress) -> Iterator[None]:
    """Alone among all processes that build this engine; whoever comes second waits, at most ``wait`` seconds, and looks again.

    Raises OutputError.
    """
    make_folder(os.path.dirname(paths.engine))
    with lock_work(f"{paths.engine}{LOCK_SUFFIX}", f"the build of {paths.engine}", progress, wait, OUTPUT_SETTING):
        yield


def _check_fast(path: str, manifest: Manifest) -> Lookup:
    return _check_engine(path, manifest, manifest.engine.blake3, blake3_of_file)


def _check_engine(path: str, manifest: Manifest, published: str | None, digest_of: Callable[[str], str]) -> Lookup:
    """Whether the engine's bytes have the digest of those that were ``published``."""
    try:
        digest = digest_of(path)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        return Lookup(doubt=_unreadable(path, error))
    return Lookup(manifest) if digest == published else Lookup(doubt=_another(path))


def _unreadable(path: str, error: Exception) -> str:
    return f"{path} cannot be read ({_reason(error)})"


def _another(path: str) -> str:
    return f"{path} is not the file that was published (truncated or edited)"


def publish(
    paths: EnginePaths,
    data: Any,
    digests: Background[dict[str, str]],
    describe: Callable[[EngineFile], Manifest],
    wait: float,
    progress: Progress,
    *,
    fingerprint: str,
    judged: bool,
) -> Manifest:
    """Write engine and manifest, then give both their names, under the folder's lock; returns the manifest.

    ``describe`` makes it when the file is known; ``digests`` are the engine's (``digests_of``), computed while the engine is
    written; ``wait``: seconds to wait for the lock. Where another process has published an engine with this ``fingerprint``
    meanwhile, ``judged`` no less, that one stays and its manifest is returned.
    An error leaves the previous pair. A crash between the two renames leaves an engine whose manifest does not fit, which
    ``find`` treats as a miss. Raises OutputError.
    """
    folder = os.path.dirname(paths.engine)
    make_folder(folder)
    written: list[Manifest] = []

    def contents() -> Iterator[tuple[str, Any]]:
        yield paths.engine, data
        file = EngineFile(os.path.basename(paths.engine), memoryview(data).nbytes, **digests.result())
        written.append(describe(file))
        yield paths.manifest, encode_json(written[0].to_json())

    with lock_folder(folder, progress, wait, OUTPUT_SETTING):
        remove_abandoned(folder)
        if (other := _published_meanwhile(paths, fingerprint, judged)) is not None:
            return other
        check_places(paths)
        write_together(contents())
    return written[0]


def check_places(paths: EnginePaths) -> None:
    """Refuse early paths where something lies that no engine or manifest may replace. Raises OutputError."""
    for path in (paths.engine, paths.manifest):
        check_place(path)


def _published_meanwhile(paths: EnginePaths, fingerprint: str, judged: bool) -> Manifest | None:
    """What another process published for the very same request while we were building: its engine stays."""
    try:
        there = read_manifest(paths.manifest)
    except (OSError, ValueError):
        return None
    if there.fingerprint != fingerprint or (judged and not there.judged):
        return None
    return _check_fast(paths.engine, there).manifest


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
