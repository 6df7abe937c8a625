"""INT8 calibration: ours compared with onnxruntime.quantization and nvidia-modelopt, with the same network, images and methods.

    python benchmarks/calibration.py [--network resnet50] [--images 4 16 64] [--rounds 5] [--model FILE.onnx]
                                     [--trained FOLDER] [--modelopt PYTHON]

Every case is a separate process that reads the same float32 network (batch normalization folded) and the same images and
writes an ONNX file with Q/DQ; "plain" only runs the images. Printed: wall and CPU seconds, peak memory, ratios to plain, and
the SQNR of each result's outputs on other images. --trained uses the folder of train_resnet50.py and its kind of images
instead of random weights and images. --modelopt (or CMX4TRT_MODELOPT_PYTHON) is the Python of an environment with
nvidia-modelopt[onnx]; without it that row is skipped, with a note.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cmx4trt.base.telemetry import switch_off

SEED, TEST_SEED = 1234, 999
TEST_IMAGES = {"resnet50": 16, "retinanet": 1}
METHODS = ("minmax", "percentile", "entropy", "mse")
ORT_MOST = {"resnet50": 64, "retinanet": 4}
"""quantize_static keeps the activations of every RetinaNet image, about 2 GB each, until the last one is read."""
SHAPES = {"resnet50": (3, 224, 224), "retinanet": (3, 800, 800)}


def main() -> None:
    switch_off()
    if os.environ.get("CMX4TRT_BENCH_ONE_THREAD"):
        one_thread()
    if len(sys.argv) > 1 and sys.argv[1] in WORKERS:
        WORKERS[sys.argv[1]](*sys.argv[2:])
        return
    options = read_options()
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        network = prepare_network(options, Path(folder))
        test = make_images(options, TEST_SEED, TEST_IMAGES[options.network])
        for count in options.images:
            images = Path(folder, f"images{count}.npy")
            np.save(images, make_images(options, SEED, count))
            compare(options, Path(folder), network, images, count, test)


def one_thread() -> None:
    """From here on ONNX Runtime's sessions compute on the thread that runs them, also those that other libraries open."""
    import onnxruntime as ort

    every = ort.SessionOptions

    class OneThread(every):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.intra_op_num_threads = self.inter_op_num_threads = 1

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, 1 if name.endswith("_op_num_threads") else value)

    ort.SessionOptions = OneThread


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=sorted(SHAPES), default="resnet50")
    parser.add_argument("--images", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", help="ONNX file (default: random weights)")
    parser.add_argument("--trained", type=Path, help="folder of train_resnet50.py")
    parser.add_argument("--modelopt", default=os.environ.get("CMX4TRT_MODELOPT_PYTHON"), metavar="PYTHON")
    parser.add_argument("--only", nargs="+", help="names of the cases to run")
    parser.add_argument("--scratch", help="folder for temporary files")
    return parser.parse_args()


def prepare_network(options: argparse.Namespace, folder: Path) -> Path:
    """The float32 network that all tools receive."""
    from cmx4trt.ir.onnx_file import decode_model, encode_model, read_bytes
    from cmx4trt.networks import model_from_seed, spec_of
    from cmx4trt.networks.graphs import network_from_model
    from cmx4trt.requests.build import BuildRequest

    if options.trained:
        from trained import joined_model

        model = decode_model(joined_model(options.trained))
    elif options.model:
        model = decode_model(read_bytes(options.model))
    else:
        model = model_from_seed(options.network, 0)
    request = BuildRequest.from_values({"network": options.network})
    network = network_from_model(model, spec_of(options.network), request.graph_options())
    for number, node in enumerate(network.model.graph.nodes):
        node.name = node.name or f"node_{number}"
    path = folder / "network.onnx"
    path.write_bytes(encode_model(network.model, None).message)
    return path


def make_images(options: argparse.Namespace, seed: int, count: int) -> Any:
    if options.trained:
        import textures

        return textures.preprocess(textures.held_out(seed, 0, count)[0])
    shape = (count, *SHAPES[options.network])
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def compare(options: argparse.Namespace, folder: Path, network: Path, images: Path, count: int, test: Any) -> None:
    from measure import measure, print_table

    cases = [case for case in all_cases(options, folder, network, images, count) if works(case)]
    runs = measure(cases, options.rounds)
    print_table(f"{options.network}, {count} images", runs, "plain")
    for case in cases:
        result = folder / f"{case.name.replace(' ', '-')}.onnx"
        if result.exists():
            print(f"SQNR {case.name}: {sqnr(network, result, test):.2f} dB", flush=True)


def works(case: Any) -> bool:
    from measure import run_once

    try:
        run_once(case)
    except RuntimeError as error:
        print(f"skipped: {case.name} ({str(error).strip().splitlines()[-1][:300]})", flush=True)
        return False
    return True


def all_cases(options: argparse.Namespace, folder: Path, network: Path, images: Path, count: int) -> list[Any]:
    from measure import Case

    def case(name: str, python: str, worker: str, *arguments: str) -> Any:
        output = folder / f"{name.replace(' ', '-')}.onnx"
        command = [python, __file__, worker, str(network), str(images), str(output), options.network, *arguments]
        cache = folder / "cache"
        return Case(
            name, command, before=lambda: shutil.rmtree(cache, ignore_errors=True), env={"XDG_CACHE_HOME": str(cache)}
        )

    cases = [case("plain", sys.executable, "plain")]
    cases += [case(f"ours {method}", sys.executable, "ours", method) for method in METHODS]
    if count <= ORT_MOST[options.network]:
        cases.append(case("ort minmax", sys.executable, "ort", "MinMax"))
    else:
        print("skipped: ort minmax (about 2 GB per image)")
    if options.modelopt:
        cases += [case(f"modelopt {method}", options.modelopt, "modelopt", method) for method in ("max", "entropy")]
    else:
        print("skipped: modelopt (give its Python with --modelopt)")
    return [c for c in cases if not options.only or c.name in (*options.only, "plain")]


def sqnr(network: Path, quantized: Path, images: Any) -> float:
    """10 log10 of signal over error, with the error relative to the energy of its output, averaged over the outputs."""
    import onnxruntime as ort

    sessions = [ort.InferenceSession(str(path), session_options()) for path in (network, quantized)]
    names = [output.name for output in sessions[0].get_outputs()]
    energies = np.zeros((2, len(names)))
    for image in images:
        feeds = {sessions[0].get_inputs()[0].name: image[None]}
        expected, got = (dict(zip(names, s.run(names, feeds), strict=True)) for s in sessions)
        for index, name in enumerate(names):
            exact = expected[name].astype(np.float64)
            energies[:, index] += np.square(exact).sum(), np.square(got[name] - exact).sum()
    return float(-10 * np.log10((energies[1] / energies[0]).mean()))


def session_options() -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    return options


def read_each(images: str) -> Any:
    """The images one after the other, each as [1, C, H, W]; the file is not kept in memory."""
    every = np.load(images, mmap_mode="r")
    for index in range(len(every)):
        yield np.array(every[index : index + 1])


def run_plain(network: str, images: str, output: str, kind: str) -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(network, session_options())
    for image in read_each(images):
        session.run(None, {"input": image})


def run_ours(network: str, images: str, output: str, kind: str, method: str) -> None:
    from cmx4trt.base.progress import Silent
    from cmx4trt.graph.network import CanonicalGraph
    from cmx4trt.ir.onnx_file import decode_model, encode_model, read_bytes
    from cmx4trt.networks import spec_of
    from cmx4trt.quantize import quantize_network
    from cmx4trt.requests.build import BuildRequest

    values = {"network": kind, "precision": "int8", "calibration_data": images, "calibration_method": method}
    found = CanonicalGraph(decode_model(read_bytes(network)), spec_of(kind))
    quantize_network(found, BuildRequest.from_values(values), Silent())
    Path(output).write_bytes(encode_model(found.model, None).message)


def run_ort(network: str, images: str, output: str, kind: str, method: str, symmetric: bool = True) -> None:
    """The options for TensorRT's Q/DQ layout (the last one aside); everything else is the library's default."""
    import logging

    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = read_each(images)

        def get_next(self) -> Any:
            image = next(self.images, None)
            return None if image is None else {"input": image}

    logging.disable(logging.WARNING)
    quantize_static(
        network,
        output,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[method],
        extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True, "QuantizeBias": False},
    )


def run_modelopt(network: str, images: str, output: str, kind: str, method: str) -> None:
    from modelopt.onnx.quantization import quantize

    # It rewrites its input file.
    source = f"{output}.source.onnx"
    shutil.copy(network, source)
    data = np.load(images)
    shape = "x".join(map(str, (1, *data.shape[1:])))
    quantize(
        source,
        quantize_mode="int8",
        calibration_data={"input": data},
        calibration_method=method,
        calibration_shapes=f"input:{shape}",
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=output,
    )


WORKERS: dict[str, Callable[..., None]] = {
    "plain": run_plain,
    "ours": run_ours,
    "ort": run_ort,
    "modelopt": run_modelopt,
}

if __name__ == "__main__":
    main()
