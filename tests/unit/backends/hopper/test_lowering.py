"""From a Q/DQ graph to operations, and what is refused."""

from __future__ import annotations

from collections import Counter

import numpy as np

from cmx4trt.backends.hopper.network import AveragePool, Classifier, Convolution, MaxPool, Projection, Residual


def test_resnet50_becomes_52_operations(hopper_resnet50) -> None:  # type: ignore[no-untyped-def]
    network = hopper_resnet50.network
    assert Counter(type(operation) for operation in network.operations) == {
        Convolution: 49,
        MaxPool: 1,
        AveragePool: 1,
        Classifier: 1,
    }
    addends = Counter(type(op.addend) for op in network.operations if isinstance(op, Convolution))
    assert addends == {Projection: 4, Residual: 12, type(None): 33}
    assert network.input.signed
    assert not any(a.signed for a in network.activations.values() if a is not network.input)
    assert network.classifier.weights.shape == (1001, 2048)
    stem = network.operations[0]
    assert isinstance(stem, Convolution)
    assert (stem.weights.shape, stem.stride, stem.padding) == ((64, 7, 7, 3), 2, 3)
    assert stem.weights.dtype == np.int8
    assert network.activations[stem.output].height == 112
