"""What the commands of hopper.py work on: the network, the GPU, engines, sessions and images."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from hopper_reference import network_for

from cmx4trt.backends.hopper import reference, wgmma
from cmx4trt.backends.hopper.choices import Choices, choices_of
from cmx4trt.backends.hopper.compiler import KERNELS, Compiler
from cmx4trt.backends.hopper.container import read_engine, write_engine
from cmx4trt.backends.hopper.engine import Engine
from cmx4trt.backends.hopper.images import random_images
from cmx4trt.backends.hopper.network import Network
from cmx4trt.backends.hopper.plan import Kernel
from cmx4trt.backends.hopper.schedule import INPUT, Scheduled, Types, schedule
from cmx4trt.backends.hopper.session import HopperSession
from cmx4trt.devices.cuda import open_cuda
from cmx4trt.ir.onnx_file import decode_model
from cmx4trt.networks import model_from_seed

ALL_TYPES = (Types("int8"), Types("float32"), Types("float16", "float16"))
COMPILE_ONLY = "kernels"


class Bench:
    """The network, the GPU, and kernels compiled once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.records: dict[str, Any] = {}
        self._cubins: dict[str, bytes] = {}
        if options.kernels and not self.compiles_only:
            sources, self._cubins = pickle.loads(options.kernels.read_bytes())
            if sources != digest_of_kernels():
                sys.exit(f"{options.kernels} was compiled from other sources; recompile it: hopper.py kernels")

    @property
    def compiles_only(self) -> bool:
        """No GPU is needed, and ``--kernels`` is written instead of read."""
        return bool(self.options.commands == [COMPILE_ONLY])

    @cached_property
    def device(self) -> Any:
        return open_cuda()

    @cached_property
    def network(self) -> Network:
        """ResNet-50 with random weights, calibrated on random images; or the trained one."""
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = folder
            return trained_network(self.options.trained, Path(folder)) if self.options.trained else random_network()

    @cached_property
    def choices(self) -> Choices:
        known = "" if self.compiles_only else self.device.facts.name
        return choices_of(self.options.choices, known)

    def scheduled(self, batch: int, types: Types = ALL_TYPES[0], choices: Choices | None = None) -> Scheduled:
        return schedule(self.network, batch, types, choices or self.choices)

    def engine(self, batch: int, types: Types = ALL_TYPES[0], choices: Choices | None = None) -> Engine:
        """The engine, after writing and reading its file."""
        made = self.scheduled(batch, types, choices)
        cubins = self.compiled(made.plan.kernels)
        return read_engine(write_engine(Engine(made.plan, cubins, made.weights)), "the engine")

    def compiled(self, kernels: Sequence[Kernel]) -> dict[str, bytes]:
        missing = [kernel for kernel in kernels if kernel.name not in self._cubins]
        if missing:
            compiled = Compiler().compile_all(missing)
            for name, one in compiled.items():
                assert not one.resources.spills, f"{name} spills: {one.resources}"
            self._cubins.update({name: one.cubin for name, one in compiled.items()})
        return {kernel.name: self._cubins[kernel.name] for kernel in kernels}

    @contextmanager
    def session(self, batch: int, *more: Any) -> Iterator[HopperSession]:
        """A session for batches up to ``batch``, with random images uploaded for one of that size."""
        with closing(HopperSession(self.engine(batch, *more), self.device)) as session:
            session.place({INPUT: self.images(batch, 7, session.input_dtype(INPUT))})
            yield session

    def images(self, count: int, seed: int, dtype: str = "int8") -> Any:
        a = self.network.input
        few = min(count, 64)
        if self.options.trained:
            images = held_out_images(self.options.trained, few, a.scale)
            assert dtype == "int8", "the trained network is measured with int8 input"
        else:
            images = random_images(seed, few, (a.channels, a.height, a.width), a.scale, dtype)
        return images[np.arange(count) % len(images)]


def random_network() -> Network:
    model = model_from_seed("resnet50", 0)
    return network_for(model, random_weights=0, calibration_data="random", calibration_count=4).network


def trained_network(folder: Path, scratch: Path) -> Network:
    """The network written by train_resnet50.py, calibrated on images of a series of its own."""
    from hopper_accuracy import calibration_images
    from trained import joined_model

    data = scratch / "calibration.npy"
    np.save(data, calibration_images(64))
    return network_for(decode_model(joined_model(folder)), calibration_data=str(data)).network


def held_out_images(folder: Path, count: int, scale: float) -> Any:
    """[N, 3, 224, 224] int8: images like those the network was trained on."""
    import textures
    from hopper_accuracy import training_facts

    images, _ = textures.held_out(training_facts(folder)["held_out_seed"], 0, count)
    return np.ascontiguousarray(np.moveaxis(reference.quantize_input(textures.preprocess(images), scale), 3, 1))


def digest_of_kernels() -> str:
    digest = hashlib.sha256(wgmma.header().encode())
    for path in sorted(Path(KERNELS).iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()
