"""Trains ResNet-50 for a few minutes on the procedural images of textures.py and writes it as ONNX.

    python benchmarks/train_resnet50.py --out FOLDER [--seconds 300] [--seed 20] [--weight_decay 0.05] [--smoothing 0.1]
    python benchmarks/train_resnet50.py --out FOLDER --device cpu --start FOLDER [--std 58] [--classes 25] [--size 64]

Needs torch, torchvision and onnx, and a GPU to train from scratch in minutes; no network access. Without a GPU a few minutes
suffice to continue training an earlier network (``--start``) for fewer classes, other pixels (``--std``), or to begin with
small images. FOLDER gets ``resnet50.onnx.000`` … (the ONNX file, weights stored as float16, split into parts for small transfer
limits) and ``resnet50.json`` (top-1 on the held-out images with exactly the stored weights). ``int8_accuracy.py`` uses it.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import textures
import torch
import training
from torch.nn import functional

SEED = 20
"""Default; another one gives other first weights and other training images, so an independent network."""
HELD_OUT_SEED = 21
HELD_OUT_IMAGES = 5000
PART_BYTES = 15 * 1024**2
HOPELESS = 0.3
"""After this share of the time, a loss that is still at chance level ends the run."""


def main() -> None:
    options = read_options()
    device = training.begin(options)
    model = new_model(options.small, options.classes)
    if options.start is not None:
        load_start(model, options.start, options.std)
    model = model.to(device, memory_format=torch.channels_last)
    steps = train(model, options, device)
    model = model.float().eval()
    round_to_half(model)
    images = options.images if not options.small else 64
    result = {
        "top1": evaluate(model, device, images, options),
        "images": images,
        "held_out_seed": HELD_OUT_SEED,
        "weight_decay": options.weight_decay,
        "smoothing": options.smoothing,
        "classes": options.classes,
        "std": options.std,
        "size": options.size,
        "start": options.start and str(options.start.name),
    }
    write_parts(onnx_bytes(model.cpu().to(memory_format=torch.contiguous_format)), options.out)
    training.write_facts(options.out / "resnet50.json", result | training.facts_of_run(options, steps, device))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300.0, help="training time")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--images", type=int, default=HELD_OUT_IMAGES, help="held-out images to measure top-1 on")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--bfloat16", action="store_true", help="bfloat16 on a CPU, too (faster only if it has such units)"
    )
    parser.add_argument("--start", type=Path, help="a folder written by this script: continues from its weights")
    parser.add_argument("--seed", type=int, default=SEED, help="of the first weights and the training images")
    parser.add_argument("--rate", type=float, default=training.PEAK_RATE, help="the maximum learning rate")
    parser.add_argument("--weight_decay", type=float, default=training.WEIGHT_DECAY)
    parser.add_argument("--smoothing", type=float, default=0.1, help="label smoothing")
    parser.add_argument("--size", type=int, default=textures.SIZE, help="side of the training images in pixels")
    parser.add_argument("--std", type=float, default=1.0, help="divisor of the pixels")
    parser.add_argument(
        "--classes", type=int, default=textures.CLASSES, help="number of classes; if fewer, labels modulo this"
    )
    parser.add_argument("--small", action="store_true", help="resnet18 and few held-out images, to test the script")
    return parser.parse_args()


def new_model(small: bool, classes: int) -> Any:
    from torchvision import models

    build = models.resnet18 if small else models.resnet50
    return build(num_classes=classes)


def load_start(model: Any, folder: Path, std: float) -> None:
    """The weights of an earlier run, as far as they fit (another number of classes starts over); the first layer's are scaled so
    that pixels divided by ``std`` give the same results."""
    import onnx
    from onnx import numpy_helper

    parts = sorted(folder.glob("resnet50.onnx.*"))
    proto = onnx.load_from_string(b"".join(part.read_bytes() for part in parts))
    found = {t.name.removesuffix(".half"): numpy_helper.to_array(t) for t in proto.graph.initializer}
    own = model.state_dict()
    fitting = {
        name: torch.from_numpy(found[name].astype(np.float32))
        for name, value in own.items()
        if name in found and found[name].shape == tuple(value.shape)
    }
    earlier = json.loads((folder / "resnet50.json").read_text()).get("std", 1.0)
    fitting["conv1.weight"] *= std / earlier
    model.load_state_dict({**own, **fitting})
    print(f"{len(fitting)} of {len(own)} tensors from {folder}", flush=True)


def train(model: Any, options: argparse.Namespace, device: torch.device) -> int:
    """Train for ``options.seconds``; every image is drawn once and never reused. Returns the number of steps."""
    optimizer = training.new_optimizer(model, options)
    rng = np.random.default_rng(options.seed)
    begun, step = time.monotonic(), 0
    while (done := (time.monotonic() - begun) / options.seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = options.rate * training.rate(done)
        images, labels = training_batch(rng, options, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or options.bfloat16):
            scores = model(images)
            loss = functional.cross_entropy(scores, labels, label_smoothing=options.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0 or options.small or (device.type == "cpu" and step % 10 == 0):
            top1 = (scores.argmax(1) == labels).float().mean().item()
            if not np.isfinite(value := loss.item()):
                sys.exit(f"training diverged at step {step}; lower --rate")
            if done > HOPELESS and value > 0.98 * np.log(options.classes):
                sys.exit(f"no better than chance at step {step}")
            print(f"step {step} {done:.0%} loss {value:.3f} batch top-1 {top1:.3f}", flush=True)
    return step


def training_batch(
    rng: np.random.Generator, options: argparse.Namespace, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    scenes = textures.draw_scenes(rng, options.batch).mapped(lambda a: torch.from_numpy(a).to(device))
    noise = torch.randn(options.batch, 3, options.size, options.size, device=device)
    means = torch.tensor(textures.MLPERF_MEANS, device=device)[:, None, None]
    images = (torch.round(textures.render(torch, scenes, noise)) - means) / options.std
    return images.contiguous(memory_format=torch.channels_last), scenes.label % options.classes


def round_to_half(model: Any) -> None:
    """Round the convolution and linear weights to float16, as they are stored in the files."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half().float())


def evaluate(model: Any, device: torch.device, count: int, options: argparse.Namespace) -> float:
    """Top-1 in float32 on held-out images 0 .. count-1."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    right = 0
    with torch.inference_mode():
        for start in range(0, count, 100):
            images, labels = textures.held_out(HELD_OUT_SEED, start, min(100, count - start))
            scores = model(torch.from_numpy(textures.preprocess(images, options.std)).to(device))
            right += int((scores.argmax(1).cpu().numpy() == labels % options.classes).sum())
    return right / count


def onnx_bytes(model: Any) -> bytes:
    """The model as an ONNX file: input 'input' [N, 3, 224, 224], output 'logits'; weights as float16, followed by a Cast.

    Batch normalization stays in the file (``training=PRESERVE`` with constants unfolded), because folding would give
    weights that float16 no longer represents exactly.
    """
    import onnx
    from onnx import helper, numpy_helper

    buffer = io.BytesIO()
    sample = torch.zeros(1, 3, textures.SIZE, textures.SIZE)
    torch.onnx.export(
        model,
        (sample,),
        buffer,
        dynamo=False,
        opset_version=17,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )
    proto = onnx.load_from_string(buffer.getvalue())
    casts = []
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name + ".half"))
            casts.append(helper.make_node("Cast", [name + ".half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def write_parts(content: bytes, folder: Path) -> None:
    for number, start in enumerate(range(0, len(content), PART_BYTES)):
        (folder / f"resnet50.onnx.{number:03}").write_bytes(content[start : start + PART_BYTES])


if __name__ == "__main__":
    main()
