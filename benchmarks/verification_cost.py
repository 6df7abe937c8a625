"""What the verification of a graph costs: CPU seconds in one thread, and memory.

    python benchmarks/verification_cost.py --network resnet50 [--precision fp16] [--model FILE.onnx] [--runs 3] [--package FOLDER]

The first run's imports, and making the model, are not in the figures: one run goes before those that count (for RetinaNet
``--warm_up 0``: there they do not matter). ``--package``: another checkout, to compare with; commits since 82d9343 will do.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEGABYTE = 1024
"""ru_maxrss counts kilobytes."""


def in_one_thread() -> None:
    """Threads that wait for each other would count as work."""
    from cmx4trt.sessions import onnxruntime as sessions

    usual: Callable[..., Any] = sessions._options
    sessions._options = lambda ort, threads, *more: usual(ort, 1, *more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--model", help="instead of random weights")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--warm_up", type=int, default=1)
    parser.add_argument("--package", type=Path, default=Path(__file__).parents[1])
    options = parser.parse_args()
    sys.path.insert(0, str(options.package))
    from cmx4trt.base.progress import Silent
    from cmx4trt.pipeline.prepare import prepare, verify
    from cmx4trt.pipeline.source import source_of_request
    from cmx4trt.requests.build import BuildRequest

    in_one_thread()
    origin = {"model": options.model} if options.model else {"random_weights": 1}
    request = BuildRequest.from_values({"network": options.network, "precision": options.precision, **origin})
    source = source_of_request(request)
    prepared = prepare(request, source, Silent())
    messages: dict[str, Any] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // MEGABYTE

    def original(output: str) -> Any:
        if output not in messages:
            messages[output] = source.message(output)
        return messages[output]

    costs = []
    for number in range(options.warm_up + options.runs):
        begun = time.process_time()
        verdict = verify(prepared, original, request).verdict
        if number >= options.warm_up:
            costs.append(round(time.process_time() - begun, 2))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // MEGABYTE
    title = f"{options.package.resolve().name}, {options.network}, {options.precision}: {verdict}"
    sys.stdout.write(f"{title}, CPU seconds {costs}, peak {peak} MB ({before} MB before)\n")


if __name__ == "__main__":
    main()
