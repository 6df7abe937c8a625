"""How fast an engine is on the local GPU: the network as one CUDA graph, then every single launch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.facts import Measurement
from cmx4trt.backends.hopper.images import random_images
from cmx4trt.backends.hopper.session import HopperSession
from cmx4trt.devices.nvml import Nvml, open_nvml

if TYPE_CHECKING:
    from cmx4trt.sessions.base import Session

SECONDS = 2.0
"""Seconds of replaying the network, long enough for clock and power to settle."""
WINDOW_SECONDS = 0.1
"""Seconds between readings of the clock."""
LAUNCHED_IMAGES = 20_000
"""Images processed when measuring one launch, in 3 to 40 repetitions."""
IMAGES = 5
"""Number of distinct images; larger batches repeat them."""
SEED = 1


def measure(
    session: Session, seconds: float = SECONDS, open_nvml: Callable[[str], Nvml | None] = open_nvml
) -> Measurement | None:
    """Measure at the engine's largest batch for ``seconds``; the median over windows. Raises DeviceError.

    ``open_nvml``: the counters of the GPU at a PCI address.
    """
    if not isinstance(session, HopperSession):
        return None
    import numpy as np

    batch = session.max_batch or 1
    name = session.inputs[0]
    shape = tuple(int(size) for size in session.input_shape(name)[1:] if isinstance(size, int))
    images = random_images(SEED, IMAGES, shape, session.input_scale, session.input_dtype(name))
    session.place({name: images[np.arange(batch) % IMAGES]})
    milliseconds, readings = _replay(session, batch, seconds, open_nvml(session.gpu.pci_bus_id))
    launches = [round(one, 5) for _, one in session.launch_times(batch, repetitions(batch))]
    facts = session.gpu
    driver = {"driver": facts.driver} if facts.driver else {}
    figures = {"launch_milliseconds": launches, **driver, "cuda": facts.cuda, **readings}
    return Measurement(facts.name, batch, round(milliseconds, 4), figures)


def repetitions(batch: int) -> int:
    """How often a launch for ``batch`` images is repeated for timing."""
    return min(40, max(3, LAUNCHED_IMAGES // batch))


def _replay(session: HopperSession, batch: int, seconds: float, nvml: Nvml | None) -> tuple[float, dict[str, Any]]:
    """Milliseconds of the network, and the clock, power and temperature of the GPU at the end, if available."""
    once = session.run_resident(batch, 3) / 3
    times = max(1, round(1e3 * WINDOW_SECONDS / once)) if once else 1
    windows: list[float] = []
    readings: dict[str, Any] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end or not windows:
        windows.append(session.run_resident(batch, times) / times)
        if nvml is not None:
            try:
                readings = nvml.read().to_dict()
            except OSError:
                nvml = None  # a reading that the card does not provide
    return statistics.median(windows), readings
