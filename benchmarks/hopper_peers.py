"""ResNet-50 in PyTorch, FP16, on the GPU that hopper.py measures, for comparison.

    python benchmarks/hopper_peers.py [--batches 1,8,64,256,1024,2048] [--compiled 64,1024] [--seconds 5] [--out FOLDER]

Random weights, channels last, inference mode, inputs in GPU memory: eager operators captured as a CUDA graph, and
torch.compile(mode="max-autotune"), which captures one itself. Needs torch and torchvision. ONNX Runtime's CUDA provider:
gpu_offline.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def main() -> None:
    options = read_options()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    records: dict[str, dict[int, float]] = {}
    cases: list[tuple[str, list[int], Callable[[Any, Any], Callable[[], Any]]]] = [
        ("torch FP16, CUDA graph", options.batches, recorded),
        ("torch.compile max-autotune FP16", options.compiled, compiled),
    ]
    print("\n| | batch | ms | images/s |\n|---|---|---|---|")
    for name, batches, prepare in cases:
        for batch in batches:
            milliseconds = measured(prepare, batch, options.seconds)
            records.setdefault(name, {})[batch] = milliseconds
            print(f"| {name} | {batch} | {milliseconds:.3f} | {batch / milliseconds * 1e3:,.0f} |", flush=True)
            if options.out:
                (options.out / "peers.json").write_text(json.dumps(records, indent=1))


def measured(prepare: Callable[[Any, Any], Callable[[], Any]], batch: int, seconds: float) -> float:
    """Milliseconds per batch: the median of windows over ``seconds``."""
    from torchvision import models

    torch.manual_seed(0)
    model = models.resnet50().eval().half().cuda().to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, 224, 224, device="cuda", dtype=torch.float16)
    with torch.inference_mode():
        run = prepare(model, images.to(memory_format=torch.channels_last))
        for _ in range(3):
            run()
        once = window(run, 3)
        times, end = max(1, round(200 / once)), time.monotonic() + seconds
        found: list[float] = []
        while not found or time.monotonic() < end:
            found.append(window(run, times))
    return statistics.median(found)


def window(run: Callable[[], Any], times: int) -> float:
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(times):
        run()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / times


def recorded(model: Any, images: Any) -> Callable[[], Any]:
    torch.backends.cudnn.benchmark = True
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            model(images)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(images)
    replay: Callable[[], Any] = graph.replay
    return replay


def compiled(model: Any, images: Any) -> Callable[[], Any]:
    torch.compiler.reset()
    fast = torch.compile(model, mode="max-autotune", dynamic=False)
    return lambda: fast(images)


def read_options() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",") if part]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=numbers, default=[1, 8, 64, 256, 1024, 2048])
    parser.add_argument("--compiled", type=numbers, default=[64, 1024])
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each measurement")
    parser.add_argument("--out", type=Path, help="folder for peers.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
