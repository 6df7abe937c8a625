"""What must exist before NVIDIA's code can build, and which command provides what is missing.

Checks only read; ``link_inputs`` creates folders and links, and never replaces a file.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

from cmx4trt.backends.common_code.networks import FILES
from cmx4trt.backends.common_code.options import CommonCodeOptions
from cmx4trt.backends.common_code.releases import Release
from cmx4trt.backends.options import BuildOptions
from cmx4trt.base.files import open_file, open_text
from cmx4trt.base.values import absolute_path
from cmx4trt.errors import DataError, MissingSoftwareError, ModelError, OutputError, UnsupportedError

SCRATCH = "MLPERF_SCRATCH_PATH"
"""Environment variable of NVIDIA's Makefile: the folder of data, preprocessed_data and models."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A checkout with its scratch space, as far as known before anything is created."""

    folder: str
    release: Release
    scratch: str

    def path(self, relative: str) -> str:
        """A path in the checkout."""
        return os.path.join(self.folder, relative)

    def model(self, network: str) -> str:
        """The path at which the release expects the model file."""
        return os.path.join(self.scratch, self.release.models[network])


def scratch_of(folder: str, output_dir: str) -> str:
    """The scratch space: from the environment, otherwise the one linked in the checkout, otherwise one in the output folder.

    Raises OutputError if the environment names one that does not exist.
    """
    named = os.environ.get(SCRATCH)
    if named:
        if not os.path.isdir(named):
            raise OutputError(
                f"{SCRATCH} is {named}, which is not a folder; make it, or "
                'cmr "get mlperf inference nvidia scratch space"'
            )
        return absolute_path(named)
    linked = os.path.join(folder, "build", "models")
    if os.path.isdir(linked):
        return os.path.dirname(os.path.realpath(linked))
    return os.path.join(output_dir, "nvidia_scratch")


def check_tree(tree: Tree, request: BuildOptions) -> str:
    """Reject builds for which something is missing; returns the path of the model file that will be built. Raises CmxError."""
    network = request.network
    if not os.path.isdir(tree.path(f"code/{network}")):
        raise UnsupportedError(
            f"{tree.folder} has no code for {network} (code/{network}); use another release, or _tensorrt"
        )
    tree.release.check(request)
    _check_inference_source(tree, CommonCodeOptions.of(request).inference_source)
    _check_plugins(tree, network)
    model = _model_to_build(tree, request)
    if request.precision == "int8":
        _check_calibration(tree, network)
    return model


def _check_inference_source(tree: Tree, given: str | None) -> None:
    release, place = tree.release, tree.path(tree.release.inference_source)
    clone = place if os.path.isdir(place) else given
    if clone is None or not os.path.isdir(clone):
        raise MissingSoftwareError(
            f"NVIDIA's code {release.name} needs a clone of mlcommons/inference in {place}, which is missing; "
            'give --inference_source=PATH (cmr "get mlcommons inference src")'
        )
    files = [name.removeprefix("build/inference/") for name in release.inference_files]
    if files and not any(os.path.isfile(os.path.join(clone, name)) for name in files):
        raise MissingSoftwareError(
            f"the clone of mlcommons/inference in {clone} does not match NVIDIA's code {release.name}, which imports "
            f"{files[0]} from it; give one from the time of that release with --inference_source=PATH"
        )
    for folder in release.extra_folders:
        if not os.path.isdir(tree.path(folder)):
            raise MissingSoftwareError(
                f"NVIDIA's code {release.name} needs {tree.path(folder)}, which is missing; "
                "fetch it with: git submodule update --init"
            )


def _check_plugins(tree: Tree, network: str) -> None:
    for plugin in tree.release.plugins.get(network, ()):
        if not os.path.isfile(tree.path(plugin)):
            raise MissingSoftwareError(
                f"NVIDIA's plugin {tree.path(plugin)} is missing; build it with: make build_plugins, in {tree.folder} "
                '(cmr "build mlperf inference server nvidia")'
            )


def _model_to_build(tree: Tree, request: BuildOptions) -> str:
    place, given, files = tree.model(request.network), request.model, FILES[request.network]
    if given is None:
        if os.path.isfile(place):
            return place
        raise ModelError(f"NVIDIA's code {tree.release.name} needs {place}, which is missing; {files.how_to_get}")
    if not os.path.isfile(given):
        raise ModelError(f"model file {given} does not exist; {files.how_to_get}")
    mark = files.mark_of(tree.release.name)
    if mark is not None and not _holds(given, mark):
        raise ModelError(
            f"model file {given} is not the {files.title} that NVIDIA's code {tree.release.name} builds (its own export); "
            f"{files.how_to_get}, and omit --model"
        )
    if os.path.lexists(place) and not os.path.islink(place) and not os.path.samefile(place, given):
        raise ModelError(
            f"NVIDIA's code builds {place}, which is not the file of --model={given}; move it away, or omit --model"
        )
    return given


def _holds(path: str, mark: bytes) -> bool:
    if os.path.getsize(path) == 0:  # cannot be mapped
        return False
    with open_file(path) as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(mark) >= 0


def _check_calibration(tree: Tree, network: str) -> None:
    files = FILES[network]
    cache, images = tree.path(f"code/{network}/tensorrt/calibrator.cache"), tree.path(files.calibration_map)
    for path in (cache, images):
        if not os.path.isfile(path):
            raise DataError(
                f"NVIDIA's code needs {path} for int8, which is missing; restore it: git checkout -- {path}"
            )
    if files.calibration_arrays is None:
        return
    folder = os.path.join(tree.scratch, files.calibration_arrays)
    with open_text(images) as stream:
        names = [line.split()[0] for line in stream if line.strip()]
    missing = [name for name in names if not _has_array(folder, name)]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(names)} calibration arrays are missing in {folder} (the first: {missing[0]}.npy); "
            f"NVIDIA's code loads them all even with its calibration cache; make them with: {files.preprocess}"
        )


def _has_array(folder: str, name: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, f"{stem}.npy")) for stem in (name, os.path.splitext(name)[0]))


def link_inputs(tree: Tree, request: BuildOptions, model: str) -> None:
    """Create the scratch space and the links to external inputs. Raises OutputError."""
    try:
        for name in ("data", "preprocessed_data", "models"):
            os.makedirs(os.path.join(tree.scratch, name), exist_ok=True)
        os.makedirs(tree.path("build"), exist_ok=True)
        _link(tree.model(request.network), model)
        source = CommonCodeOptions.of(request).inference_source
        if source is not None:
            _link(tree.path(tree.release.inference_source), source)
    except OSError as error:
        raise OutputError(f"cannot prepare {error.filename} for NVIDIA's code: {error.strerror}") from error


def _link(place: str, target: str) -> None:
    """A symbolic link at ``place``; an older link is replaced, a file or folder is kept."""
    if os.path.exists(place) and os.path.samefile(place, target):
        return
    if os.path.islink(place):
        os.unlink(place)
    if not os.path.lexists(place):
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.symlink(target, place)
