"""How CM and MLCFlow differ, as far as the shared hooks care. Standard library only: hooks run in the framework's Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

EXPORT_PREFIX = "MLPERF_ENGINE_"
RESULT_PREFIX = "MLPERF_RESULT_"
SWEEP_PREFIX = "MLPERF_SWEEP_"
"""After the framework's prefix: what the next script gets."""


@dataclass(frozen=True, slots=True)
class Framework:
    """One front end: its name, the prefix of its environment keys, and the inputs that are its own."""

    name: str
    prefix: str
    flags: frozenset[str]
    """Inputs that belong to the framework and are passed over."""
    flags_without_effect: Mapping[str, str]
    """Flags of the framework that nothing here reads, and what to say after the refusal."""
    words: Callable[[Mapping[str, Any]], list[str]]
    """The words of the typed line that inputs came from; none from Python."""
    stray_words: Callable[[Mapping[str, Any]], list[str]]
    """The words of it that the framework drops."""
    variations: Callable[[Mapping[str, Any]], tuple[str, ...]]
    """The variations that were named, of what the framework hands to a hook."""
    usage: Callable[[str, str], str]
    """The line that a user types, from variations and flags."""
    usages: tuple[str, ...]
    """The lines of the help that say how the script is called."""
    help_hint: str
    """The last line of the help."""
    mounted: str
    """Where the framework mounts the host's folders in a container."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Environment keys of the framework whose values a user sees as something else."""
    exits: bool = False
    """Whether a typed line ends in the hook that failed: the framework itself would lose the exit status."""

    def key(self, name: str) -> str:
        """The framework's environment key with this name."""
        return self.prefix + name

    def typed(self, given: Mapping[str, Any]) -> bool:
        """Whether the inputs are those of a typed line, not of Python or of another script."""
        return bool(self.words(given)) and not given.get("recursion")

    def spelt(self, key: str) -> str:
        """The framework's spelling of one of CM's environment keys."""
        return self.key(key.removeprefix("CM_")) if key.startswith("CM_") else key
