"""Sums over images of what two runs of a network share, and of how far they are apart."""

from __future__ import annotations

from collections.abc import Mapping
from math import log10
from typing import TYPE_CHECKING, Any

from cmx4trt.networks.base import Outputs, Results

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOISE_SEED = 20241124
LEAST_DETECTIONS = 10
"""Detections from which on their agreement says something."""
REDUCED = "_float16"
"""Ends the names of values that graph.precision computes in float16."""


def sqnr_db(signal: float, noise: float) -> float | None:
    """10 log10 (signal / noise) of two energies; None where there is no noise."""
    if noise == 0:
        return None
    return 10 * log10(signal / noise) if signal > 0 else float("-inf")


class Tally:
    """Sums over images."""

    def __init__(self, results: Results) -> None:
        self.agreed = self.compared = self.noise_agreed = 0
        self._results, self._with_noise, self.consistent = results, False, True
        self._energies: dict[str, tuple[float, float]] = {}

    def add(self, expected: Outputs, got: Outputs) -> None:
        """One more image."""
        agreed, compared = self._results.count_agreeing(expected, got)
        self.agreed += agreed
        self.compared += compared
        found = {name.removesuffix(REDUCED): name for name in got}
        named = {**got, **{name: got[found[name]] for name in self._results.values if name in found}}
        if self._results.follow is not None and named.keys() >= set(self._results.values):
            self.consistent = self.consistent and self._results.follow(named)
        shared = [name for name in self._results.values if name in expected and name in found]
        errors = {name: self._add_energies(name, expected[name], got[found[name]]) for name in shared}
        if self._results.from_values and len(shared) == len(self._results.values):
            self._with_noise = True
            self.noise_agreed += self._results.count_agreeing(expected, self._noisy(expected, errors))[0]

    def _add_energies(self, name: str, expected: NDArray[Any], got: NDArray[Any]) -> float:
        """Returns the root of the mean square error."""
        import numpy as np

        exact = expected.astype(np.float64)
        signal, noise = self._energies.get(name, (0.0, 0.0))
        error = float(np.square(got.astype(np.float64) - exact).sum())
        prior = self._results.priors.get(name)
        varying = exact if prior is None else exact - prior.reshape(1, -1, *[1] * (exact.ndim - 2))
        self._energies[name] = (signal + float(np.square(varying).sum()), noise + error)
        return float((error / exact.size) ** 0.5)

    def _noisy(self, expected: Outputs, errors: Mapping[str, float]) -> Outputs:
        """The raw results with Gaussian noise of as much energy as their errors have."""
        import numpy as np

        random = np.random.default_rng(NOISE_SEED)
        return {
            name: expected[name] + random.standard_normal(expected[name].shape, np.float32) * np.float32(error)
            for name, error in errors.items()
        }

    def agreement_of_noise(self) -> float | None:
        """See QuantizationAccuracy."""
        return self.noise_agreed / self.compared if self._with_noise and self.compared >= LEAST_DETECTIONS else None

    def sqnr_db(self) -> dict[str, float | None]:
        """Of each raw result."""
        return {name: sqnr_db(*energies) for name, energies in sorted(self._energies.items())}
