"""The cost of a ResNet-50 build compared with the floor and with Polygraphy, and the cost of a reuse hit.

    python benchmarks/build_time.py [--rounds 7] [--without-cm]

Needs the extras rtx and test, and for the comparison: pip install polygraphy onnxconverter-common. Cases:
(a) floor: import the library, parse, build, write; (b) `cmx4trt build` with an ONNX file already in the target precision, without
and with verification; (c) `polygraphy convert`; (d) float16 from the float32 file: ours against onnxconverter-common +
polygraphy; (e) `cmr`, first build; (f) a reuse hit by command line and by `cmr`, against `python -c pass`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Case, floor_command, measure, print_table

BATCH, SIZE = 64, 224

TO_FLOAT16 = """
import sys
import onnx
from onnxconverter_common import float16

onnx.save(float16.convert_float_to_float16(onnx.load(sys.argv[1]), keep_io_types=True), sys.argv[2])
"""

CM_LINE = "generate engine mlperf inference nvidia cmx4trt _resnet50"


def model_paths(folder: Path) -> dict[str, Path]:
    return {"fp32": folder / "resnet50_fp32.onnx", "fp16": folder / "resnet50_fp16.onnx"}


def write_models(folder: Path) -> None:
    """ResNet-50 with random weights as float32 and as float16 (float32 input and output) ONNX files."""
    from cmx4trt import BuildRequest
    from cmx4trt.ir.onnx_file import encode_model
    from cmx4trt.networks import model_from_seed, spec_of
    from cmx4trt.networks.graphs import network_from_model, prepared_from_network

    paths = model_paths(folder)
    model = model_from_seed("resnet50", 0)
    paths["fp32"].write_bytes(encode_model(model, None).message)
    request = BuildRequest.from_values({"precision": "fp16"})
    network = network_from_model(model, spec_of("resnet50"), request.graph_options())
    paths["fp16"].write_bytes(encode_model(prepared_from_network(network, request.graph_options()).model, None).message)


def remover(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def build_cases(folder: Path, models: dict[str, Path], precision: str, polygraphy: str | None) -> list[Case]:
    """The floor, ours without and with verification, Polygraphy, on a file already in ``precision``."""
    model, ours = str(models[precision]), folder / f"ours_{precision}"
    plan = str(folder / "other.plan")
    shape = "input_tensor:0" if precision == "fp32" else "input"

    def build(verify: str) -> list[str]:
        flags = [f"--model={model}", f"--precision={precision}", f"--batch_size={BATCH}", f"--output_dir={ours}"]
        return [sys.executable, "-m", "cmx4trt", "build", *flags, f"--verify={verify}", "--report=no"]

    cases = [
        Case("(a) floor", floor_command(model, plan, BATCH, SIZE)),
        Case("(b) cmx4trt build, verification off", build("no"), lambda: remover(ours)),
        Case("(b) cmx4trt build, verification on", build("yes"), lambda: remover(ours)),
    ]
    if polygraphy:
        profile = [f"{option}={shape}:[{n},3,224,224]" for option, n in (("min", 1), ("opt", BATCH), ("max", BATCH))]
        shapes = [word for p in profile for word in (f"--trt-{p.split('=')[0]}-shapes", p.split("=")[1])]
        command = [sys.executable, polygraphy, "convert", model, "-o", plan, *shapes]
        cases.append(Case("(c) polygraphy convert", command, env={"POLYGRAPHY_USE_TENSORRT_RTX": "1"}))
    return cases


def chain_cases(folder: Path, models: dict[str, Path], polygraphy: str) -> list[Case]:
    """float16 from the float32 file: ours, and onnxconverter-common followed by Polygraphy in one shell."""
    ours, half, plan = folder / "chain", folder / "half.onnx", folder / "other.plan"
    flags = [f"--model={models['fp32']}", "--precision=fp16", f"--batch_size={BATCH}", f"--output_dir={ours}"]
    shapes = " ".join(
        f"--trt-{option}-shapes 'input_tensor:0:[{n},3,224,224]'"
        for option, n in (("min", 1), ("opt", BATCH), ("max", BATCH))
    )
    (folder / "to_float16.py").write_text(TO_FLOAT16)
    chain = (
        f"{sys.executable} -W ignore {folder / 'to_float16.py'} {models['fp32']} {half} && "
        f"{sys.executable} {polygraphy} convert {half} -o {plan} {shapes}"
    )
    build = [sys.executable, "-m", "cmx4trt", "build", *flags, "--report=no"]
    return [
        Case("(d) peers' chain", ["bash", "-c", chain], env={"POLYGRAPHY_USE_TENSORRT_RTX": "1"}),
        Case("(d) cmx4trt build, verification off", [*build, "--verify=no"], lambda: remover(ours)),
        Case("(d) cmx4trt build, verification on", [*build, "--verify=yes"], lambda: remover(ours)),
        Case("(d) cmx4trt build, verification and report on", [*build, "--report=yes"], lambda: remover(ours)),
    ]


def reuse_cases(folder: Path, models: dict[str, Path], with_cm: bool) -> list[Case]:
    """Reuse hits, and a first build through CM."""
    hit, cm_out = folder / "hit", folder / "cm_out"
    flags = [f"--model={models['fp32']}", "--precision=fp16", "--batch_size=64"]
    cases = [
        Case("python -c pass", [sys.executable, "-c", "pass"]),
        Case("(f) reuse hit, cmx4trt", [sys.executable, "-m", "cmx4trt", "build", *flags, f"--output_dir={hit}"]),
    ]
    if with_cm:
        cmr = str(Path(sys.executable).parent / "cmr")
        line = [cmr, f"{CM_LINE} _batch_size.64", f"--model={models['fp32']}"]
        cases.append(Case("(f) reuse hit, cmr", [*line, f"--output_dir={hit}"], cwd=str(folder)))
        cases.append(
            Case("(e) first build, cmr", [*line, f"--output_dir={cm_out}"], lambda: remover(cm_out), cwd=str(folder))
        )
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--without-cm", action="store_true")
    parser.add_argument("--write-models", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write_models:
        write_models(Path(arguments.write_models))
        return
    polygraphy = shutil.which("polygraphy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a separate process, because a child's peak memory includes that of its parent at the start.
        subprocess.run([sys.executable, __file__, "--write-models", name], check=True)
        models = model_paths(folder)
        for precision in ("fp16", "fp32"):
            runs = measure(build_cases(folder, models, precision, polygraphy), arguments.rounds)
            print_table(f"ResNet-50 {precision}, batch 1..{BATCH}", runs, "(a) floor")
        if polygraphy is None:
            print("(c), (d) skipped: polygraphy is not installed", file=sys.stderr)
        else:
            runs = measure(chain_cases(folder, models, polygraphy), arguments.rounds)
            print_table("ResNet-50 float16 from the float32 file", runs, "(d) peers' chain")
        runs = measure(reuse_cases(folder, models, not arguments.without_cm), arguments.rounds)
        print_table("Reuse, and CM", runs, "python -c pass")


if __name__ == "__main__":
    main()
