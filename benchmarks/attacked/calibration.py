"""What INT8 is calibrated with: images, lists, ranges, caches, and the state of an interrupted run."""

from __future__ import annotations

import contextlib
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from attacked.base import Kind, small_model
from cmx4trt.base.progress import Silent
from cmx4trt.graph.batchnorm import fold_batch_norm
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.networks import spec_of
from cmx4trt.quantize.bias import mean_channels
from cmx4trt.quantize.calibration import ranges_from_content
from cmx4trt.quantize.observe import Method, Wanted, _resume, observe
from cmx4trt.quantize.observers import ExtremesObserver
from cmx4trt.quantize.placement import place
from cmx4trt.quantize.random_samples import RandomSamples
from cmx4trt.quantize.ranges import Ranges, digest_of_model
from cmx4trt.quantize.samples import open_samples
from cmx4trt.quantize.tensorrt_cache import encode_cache, parse_cache

RESNET = spec_of("resnet50")


class CalibrationImage(Kind):
    """A .npy file among calibration images."""

    _shape = (3, 4, 5)

    def __init__(self, folder: Path) -> None:
        self.path = folder / "image.npy"
        np.save(self.path, np.random.default_rng(0).standard_normal((2, *self._shape)).astype(np.float32))

    def read(self) -> Any:
        samples = open_samples(str(self.path), self._shape)
        samples.digest(Silent())
        return np.concatenate([samples.read(index) for index in range(len(samples))])

    def check(self, content: bytes, value: Any) -> None:
        assert np.isfinite(value).all()
        assert value.shape[1:] == self._shape
        raw = np.frombuffer(content, "<f4") if content[:6] != b"\x93NUMPY" else np.load(io.BytesIO(content))
        assert np.array_equal(value.reshape(-1), raw.astype(np.float32).reshape(-1))


class CalibrationState(Kind):
    """The checkpoint of an interrupted calibration: with any bit damaged it is ignored."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run.state"
        self._tensors = ("x", "r")
        model = small_model()
        with contextlib.suppress(KeyboardInterrupt):
            observe(model, Wanted(self._tensors, {}), _Interrupted(), Method.MINMAX, Silent(), str(self.path))
        self._good = self.path.read_bytes()

    def read(self) -> Any:
        observer = ExtremesObserver(self._tensors)
        return _resume((observer,), str(self.path))

    def check(self, content: bytes, value: Any) -> None:
        assert value == (3 if content == self._good else 0)


class _Interrupted(RandomSamples):
    def __init__(self) -> None:
        super().__init__((3, 8, 8), 6)

    def read(self, index: int) -> Any:
        if index == 3:
            raise KeyboardInterrupt
        return super().read(index)


class RangesFile(Kind):
    """Our JSON of ranges."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ranges.json"
        self._model = small_model()
        fold_batch_norm(self._model.graph)
        self._placement = place(self._model.graph)
        scales = dict.fromkeys(self._placement.activations, 0.0123)
        channels = mean_channels(self._model.graph, self._placement)
        means = {name: np.ones(count, np.float32) for name, count in channels.items()}
        ranges = Ranges(scales, digest_of_model(self._model), "d" * 64, "mse", 8, means)
        self.path.write_text(ranges.to_json())

    def read(self) -> Any:
        return ranges_from_content(
            self.path.read_bytes(),
            f"calibration_cache {self.path}",
            CanonicalGraph(self._model, RESNET),
            self._placement,
        )[0]

    def check(self, content: bytes, value: Any) -> None:
        found = json.loads(content.decode("utf-8", errors="replace"))["scales"]
        assert all(0 <= scale < float("inf") for scale in value.scales.values())
        assert {name: np.float32(scale) for name, scale in found.items()} == dict(value.scales)
        channels = mean_channels(self._model.graph, self._placement)
        assert all(len(mean) == channels.get(name, len(mean)) for name, mean in value.means.items())


class TensorrtCache(Kind):
    """TensorRT's calibration cache."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "calibrator.cache"
        self.path.write_bytes(encode_cache({f"layer {i}: out": 0.5 + i / 8 for i in range(40)}))

    def read(self) -> Any:
        return parse_cache(self.path.read_bytes(), f"calibration_cache {self.path}").scales

    def check(self, content: bytes, value: Any) -> None:
        lines = [line.rstrip() for line in content.decode("utf-8", "replace").splitlines()[1:] if line.strip()]
        expected = {line[:-10]: struct.unpack(">f", bytes.fromhex(line[-8:]))[0] for line in lines}
        assert expected == value
        assert all(0 <= scale < float("inf") for scale in value.values())


class CalibrationList(Kind):
    """A text file of image names."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "list.txt"
        self._folder = folder / "images"
        self._folder.mkdir()
        for index in range(30):
            np.save(self._folder / f"image{index:02}.npy", np.zeros((1, 2, 2), np.float32))
        self.path.write_text("".join(f"image{index:02}.JPEG {index}\n" for index in range(30)))

    def read(self) -> Any:
        return open_samples(str(self._folder), (1, 2, 2), str(self.path))

    def check(self, content: bytes, value: Any) -> None:
        assert len(value) == sum(bool(line.strip()) for line in content.decode().splitlines(keepends=True))
