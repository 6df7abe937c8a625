"""What the processes of int8_accuracy.py do: draw images, quantize, run, compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from int8_methods import Files, all_cases, write_plain
from trained import CALIBRATION_SEED, Answer, Outputs, read_trained

from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

FLOAT = "FP32"
"""Title of the row that the others are compared with."""


@dataclass(frozen=True)
class Work:
    """What a process needs to know of a network and where its files are."""

    folder: Path
    scratch: Path
    calibration: int
    modelopt: str | None
    device: str = "cpu"

    def file(self, name: str) -> Path:
        return self.scratch / f"{self.folder.name}-{name.replace(' ', '_').replace(',', '')}"

    def files(self) -> Files:
        return Files(self.file("plain.onnx"), self.file("calibration.npy"), self.modelopt)


@dataclass(frozen=True)
class Part:
    """Some images of one noise."""

    noise: float
    start: int
    count: int

    def name(self) -> str:
        return f"{self.noise:g}-{self.start}"


@dataclass(frozen=True)
class Row:
    """A table's row."""

    folder: Path
    noise: float
    title: str
    answers: list[Answer]
    scores: tuple[float, float]

    def cells(self) -> dict[str, float]:
        """The numbers; SQNR in dB: of the median image, the worst twentieth, the worst, and all images' energies together."""
        decibels = sorted(answer.sqnr for answer in self.answers)
        signal, error = (sum(getattr(a, part) for a in self.answers) for part in ("signal", "error"))
        return {
            "median": float(np.median(decibels)),
            "5 %": float(np.percentile(decibels, 5)),
            "lowest": decibels[0],
            "all": Answer(signal, error, None).sqnr,
        }


@dataclass(frozen=True)
class Reference:
    """What the float network answers, and what is in the images."""

    answers: list[Answer]
    truth: list[Any]


def prepare(work: Work) -> None:
    """Write the calibration images and the float network."""
    trained = read_trained(work.folder)
    images, _ = trained.images(CALIBRATION_SEED, 0, work.calibration, 1.0)
    np.save(work.files().images, images)
    write_plain(trained, work.files().plain)


def quantize(work: Work, title: str) -> None:
    """Write the quantized network."""
    case = all_cases(bool(work.modelopt))[title]
    case(read_trained(work.folder), work.files(), work.file(f"{title}.onnx"))


def run_float(work: Work, part: Part) -> tuple[list[Answer], list[Any]]:
    """The reference's answers and what is in the images; inputs and outputs are kept in files."""
    trained = read_trained(work.folder)
    images, truth = trained.images(trained.facts["held_out_seed"], part.start, part.count, part.noise)
    outputs = run(work.files().plain, images, work.device)
    np.save(work.file(f"{part.name()}-images.npy"), images)
    values: dict[str, Any] = dict(outputs)
    np.savez(work.file(f"{part.name()}-outputs.npz"), **values)
    return trained.answers(outputs, outputs), truth


def run_int8(work: Work, title: str, part: Part) -> list[Answer]:
    """A quantized network's answers."""
    got = run(work.file(f"{title}.onnx"), np.load(work.file(f"{part.name()}-images.npy")), work.device)
    with np.load(work.file(f"{part.name()}-outputs.npz")) as expected:
        return read_trained(work.folder).answers(dict(expected), got)


def run(model: Path, images: Any, device: str) -> Outputs:
    """All outputs: in ONNX Runtime image by image, or in torch."""
    if device == "cpu":
        session = OnnxRuntimeSession.from_bytes(model.read_bytes())
        found = [session.run({session.inputs[0]: images[i : i + 1]}) for i in range(len(images))]
    else:
        from torch_graph import TorchGraph, own_device

        found = [TorchGraph(model, own_device(device)).run(images)]
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def score(work: Work, noise: float, title: str, reference: Reference, answers: list[Answer]) -> Row:
    """A row of one noise."""
    scores = read_trained(work.folder).scores(reference.answers, answers, reference.truth)
    return Row(work.folder, noise, title, answers, scores)
