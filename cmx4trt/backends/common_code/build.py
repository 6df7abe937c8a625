"""One build by NVIDIA's code: from a checkout to the engine that ``make generate_engines`` leaves in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cmx4trt.backends.base import BuiltEngine
from cmx4trt.backends.common_code.options import CommonCodeOptions
from cmx4trt.backends.common_code.prepare import SCRATCH, Tree, check_tree, link_inputs, scratch_of
from cmx4trt.backends.common_code.provenance import commit_of, digest_of_tree
from cmx4trt.backends.common_code.releases import release_of
from cmx4trt.backends.common_code.run import GRACE_SECONDS, check_outcome, run_make, stamp_of
from cmx4trt.backends.common_code.system import System, ask_system
from cmx4trt.backends.options import BuildOptions
from cmx4trt.base.files import make_folder, open_file
from cmx4trt.base.progress import Progress
from cmx4trt.errors import MissingSoftwareError, UnsupportedError

_BELOW = os.path.join("closed", "NVIDIA")


class CommonCodeBuilder:
    """Runs a checkout of NVIDIA's code; one instance serves one build."""

    name = "common-code"
    unverified = (
        "NVIDIA's code creates its own graph from the model file, with its own plugins; "
        "its harness measures the accuracy (make run_harness, test mode AccuracyOnly)"
    )

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """``grace_seconds``: see ``run_make``."""
        self._grace_seconds = grace_seconds
        self._tree: Tree | None = None
        self._system: System | None = None

    def version(self) -> str:
        """The release. Raises MissingSoftwareError before ``resolve`` has found the checkout."""
        return self._known_tree().release.name

    def resolve(self, request: BuildOptions) -> Mapping[str, Any]:
        """The model file that will be built; it will not be verified. Raises CmxError naming what is missing."""
        from cmx4trt.devices.driver import check_workspace, open_device

        if request.random_weights is not None:
            raise UnsupportedError(
                "common-code builds the MLPerf model file, not random weights; use _tensorrt for random weights"
            )
        folder = _checkout(CommonCodeOptions.of(request).common_code)
        self._tree = Tree(folder, release_of(folder), scratch_of(folder, request.output_dir))
        model = check_tree(self._tree, request)
        check_workspace(request.workspace_size, open_device())
        return {"model": model, "verify": False}

    def identity(self, request: BuildOptions) -> Mapping[str, str]:
        """Release, commit and content of the checkout, the system as it identifies it, the libraries it uses, the GPU."""
        tree, system = self._known_tree(), self._known_system(request)
        return {
            "name": self.name,
            "version": tree.release.name,
            "commit": commit_of(tree.folder),
            "system_id": system.id,
            **system.versions,
            **self.place(request),
        }

    def place(self, request: BuildOptions) -> Mapping[str, str]:
        """Content of the checkout, and the GPU."""
        from cmx4trt.devices.driver import local_gpu

        return {"tree_sha256": digest_of_tree(self._known_tree().folder, request.network), **local_gpu().identity()}

    def build_from_model(self, request: BuildOptions, progress: Progress, log: str) -> BuiltEngine:
        """The engine that ``make generate_engines`` leaves in the checkout, read from there. Raises CmxError."""
        tree, system = self._known_tree(), self._known_system(request)
        assert request.model is not None
        link_inputs(tree, request, request.model)
        make_folder(os.path.dirname(log))
        flags = tree.release.flags(request)
        engine = tree.path(tree.release.engine(request, system.id))
        before = stamp_of(engine)
        progress.note(f"make generate_engines in {tree.folder}; its output goes to {log}")
        outcome = run_make(tree.folder, flags, self._environment(tree), log, progress, self._grace_seconds)
        check_outcome(outcome, engine, before, f"NVIDIA's code {tree.release.name}", log)
        with open_file(engine) as stream:
            data = stream.read()
        return BuiltEngine(data, {"flags": flags, "checkout": tree.folder, "engine_in_checkout": engine, "log": log})

    def _known_tree(self) -> Tree:
        if self._tree is None:
            raise MissingSoftwareError(
                "the location of NVIDIA's code is not known yet; give --common_code=PATH of closed/NVIDIA"
            )
        return self._tree

    def _known_system(self, request: BuildOptions) -> System:
        if self._system is None:
            tree = self._known_tree()
            self._system = ask_system(tree, request, self._environment(tree))
        return self._system

    def _environment(self, tree: Tree) -> dict[str, str]:
        return {**os.environ, SCRATCH: tree.scratch}


def _checkout(given: str | None) -> str:
    if given is None:
        raise MissingSoftwareError(
            "the builder common-code needs NVIDIA's MLPerf Inference code; give --common_code=PATH of closed/NVIDIA "
            '(cmr "get nvidia mlperf inference common-code"), or use the builder _tensorrt'
        )
    below = os.path.join(given, _BELOW)
    folder = below if os.path.isdir(below) else given
    if not os.path.isdir(folder):
        raise MissingSoftwareError(
            f"there is no folder {given}; give --common_code=PATH of closed/NVIDIA "
            '(cmr "get nvidia mlperf inference common-code")'
        )
    return folder
