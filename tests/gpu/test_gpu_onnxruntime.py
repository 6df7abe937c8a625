"""ONNX Runtime's CUDA provider, over a prepared graph: what `bench` and `verify` use where no engine can run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.graph.execution import open_prepared
from cmx4trt.networks import spec_of
from cmx4trt.pipeline.prepare import prepare
from cmx4trt.pipeline.source import source_of_request
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sessions.onnxruntime import fastest_providers

pytestmark = pytest.mark.gpu

BATCH = 8
ROUNDS = 6
LOGIT_TOLERANCE = 5e-3
"""Share of the largest logit that float16 on two processors may differ by; measured on an H200: 4.4e-4."""


@pytest.fixture(scope="module")
def graph() -> Any:
    if "CUDAExecutionProvider" not in fastest_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider")
    request = BuildRequest.from_values({"random_weights": 1, "batch_size": BATCH, "precision": "fp16"})
    return prepare(request, source_of_request(request), Silent()).graph


def test_streams_at_once_answer_as_the_cpu_does(graph: Any) -> None:
    gpu, cpu = open_prepared(graph, fastest_providers()), open_prepared(graph)
    assert gpu.device.endswith("(CUDA)")
    name, shape = gpu.inputs[0], (BATCH, *spec_of("resnet50").input_shape)
    batches = [np.random.default_rng(i).normal(size=shape).astype(np.float32) for i in range(2)]
    wanted = [cpu.run({name: batch}) for batch in batches]

    def run(index: int) -> None:
        stream = gpu.streams()[index]
        for _ in range(ROUNDS):
            stream.submit({name: batches[index]})
            found = stream.wait()
            np.testing.assert_array_equal(found["class"], wanted[index]["class"])
            error = np.abs(found["logits"] - wanted[index]["logits"]).max() / np.abs(wanted[index]["logits"]).max()
            assert error < LOGIT_TOLERANCE

    with ThreadPoolExecutor(len(gpu.streams())) as pool:
        list(pool.map(run, range(len(gpu.streams()))))
