"""ResNet-50 through everything but the kernels: schedule, engine file and session; launches compute by the specification."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cmx4trt.backends.hopper import reference
from cmx4trt.backends.hopper.choices import shipped_choices
from cmx4trt.backends.hopper.container import read_engine, write_engine
from cmx4trt.backends.hopper.engine import Engine
from cmx4trt.backends.hopper.schedule import Types, schedule
from cmx4trt.backends.hopper.session import HopperSession


@pytest.mark.slow
@pytest.mark.parametrize(
    "types", [Types("int8"), Types("float32"), Types("float16", "float16")], ids=lambda types: types.input
)
def test_a_session_computes_what_the_specification_says(
    small: ModuleType, gpu: Any, types: Types, tmp_path: Path
) -> None:
    """Also that buffers sharing memory do not live at the same time, and that launches say what they read and write."""
    network = small.load("random_resnet50").random_resnet50()
    scheduled = schedule(network, 20, types, shipped_choices())
    cubins = {kernel.name: small.CUBIN for kernel in scheduled.plan.kernels}
    file = tmp_path / "some.engine"
    file.write_bytes(write_engine(Engine(scheduled.plan, cubins, scheduled.weights)))
    engine = read_engine(file.read_bytes(), str(file))
    kernels = small.load("reference_kernels").ReferenceKernels(network, engine.plan)
    gpu.kernels = dict.fromkeys(cubins, kernels)
    session = HopperSession(engine, gpu)
    rng = np.random.default_rng(5)
    images: Any = rng.integers(-128, 128, (2, 3, 224, 224), dtype=np.int8)
    if types.input != "int8":
        images = (images.astype(np.float32) * np.float32(network.input.scale) * np.float32(1.1)).astype(types.input)
    expected = reference.run(network, images, keep=True)
    kernels.batch = 2
    outputs = session.run({"input": images})
    np.testing.assert_array_equal(outputs["logits"], expected.logits.astype(types.logits))
    np.testing.assert_array_equal(outputs["class"], expected.classes)
    assert len(set(kernels.computed)) == len(engine.plan.program(2).launches)
    session.place({"input": images})
    for name in ("pool1_out", "s3b1_3_out"):
        content = session.read_buffer(name, 2).reshape(expected.activations[name].shape)
        np.testing.assert_array_equal(content, expected.activations[name])
    session.close()
    assert gpu.held() == {}
