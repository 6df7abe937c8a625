"""What comes back from a node that does not see the caller's store: checked, then published there with the store's own code."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace

from cmx4trt.base.background import Background
from cmx4trt.base.digests import digests_of
from cmx4trt.base.files import make_folder, open_file, write_together
from cmx4trt.base.progress import Silent
from cmx4trt.errors import OutputError
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store import folder as store
from cmx4trt.store.folder import EnginePaths
from cmx4trt.store.manifest import Manifest, RequestRecord
from cmx4trt.sweep.tasks import Carried, Outcome

_STORE = "store of the sweep"


def receive_engine(outcome: Outcome, request: BuildRequest) -> Outcome:
    """Publish a carried engine where ``request`` belongs; the outcome with its path. Raises OutputError.

    Where the same engine has been published meanwhile, that one stays.
    """
    files = {file.name: file.data for file in checked(outcome)}
    name = outcome.engine
    try:
        data, manifest = files.pop(name), Manifest.from_json(files.pop(_with_ending(name, ".json")).decode())
    except (KeyError, ValueError) as error:
        raise OutputError(
            f"{outcome.host} did not return an engine with its manifest ({error}); run the sweep again"
        ) from error
    if hashlib.sha256(data).hexdigest() != manifest.engine.sha256:
        raise OutputError(f"the engine from {outcome.host} does not match its manifest; run the sweep again")
    asked = {**manifest.request.to_dict(), "output_dir": request.output_dir}
    arrived = replace(manifest, request=RequestRecord.from_dict(asked))
    paths = EnginePaths.of(request, manifest.parts)
    store.publish(
        paths,
        data,
        Background(lambda: digests_of(data)),
        lambda file: replace(arrived, engine=file),
        request.wait,
        Silent(),
        fingerprint=arrived.fingerprint,
        judged=arrived.judged,
    )
    stem = os.path.splitext(name)[0]
    others = {
        f"{os.path.splitext(paths.engine)[0]}{other.removeprefix(stem)}": content for other, content in files.items()
    }
    write_together(others.items(), _STORE)
    return replace(outcome, engine=paths.engine, carried=())


def receive_results(outcome: Outcome, engine: str) -> Outcome:
    """Write carried results beside ``engine``. Raises OutputError."""
    top = os.path.dirname(engine)
    for file in checked(outcome):
        path = os.path.join(top, file.name)
        make_folder(os.path.dirname(path), _STORE)
        write_together([(path, file.data)], _STORE)
    error, results = outcome.error, {}
    for mode, found in outcome.results.items():
        here = _moved(found.folder, top)
        error = error.replace(found.folder, here)
        results[mode] = replace(found, folder=here)
    return replace(outcome, engine=engine, error=error, results=results, carried=())


def checked(outcome: Outcome) -> Sequence[Carried]:
    """The carried files, whose bytes are those that were sent, and whose names stay below a folder. Raises OutputError."""
    for file in outcome.carried:
        if os.path.isabs(file.name) or ".." in file.name.split("/"):
            raise OutputError(
                f"{outcome.host} sent a file named {file.name}, outside its folder; do not trust this node"
            )
        if hashlib.sha256(file.data).hexdigest() != file.sha256:
            raise OutputError(f"{file.name} from {outcome.host} was damaged in transit; run the sweep again")
    return outcome.carried


def engine_to_carry(engine: str) -> list[Carried]:
    """An engine of the store and its manifest, for a node that does not see them. Raises OSError."""
    files = []
    for path in (engine, store.manifest_path_of(engine)):
        with open_file(path) as stream:
            data = stream.read()
        files.append(Carried(os.path.basename(path), hashlib.sha256(data).hexdigest(), data))
    return files


def _with_ending(name: str, ending: str) -> str:
    return f"{os.path.splitext(name)[0]}{ending}"


def _moved(folder: str, top: str) -> str:
    """A results folder of another machine, as it lies here: below the engine's folder."""
    before, mark, below = folder.rpartition(".results" + os.sep)
    return os.path.join(top, f"{os.path.basename(before)}{mark}{below}")
