"""The GPUs that a backend's engines can be built for, as users name them. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cmx4trt.base.damage import shortened
from cmx4trt.base.frozen import Frozen, field
from cmx4trt.base.values import nearest
from cmx4trt.devices.cards import CARDS, GENERATIONS, capability_of
from cmx4trt.errors import RequestError


class Targets(Frozen):
    """The values of ``--target`` with one backend.

    - ``names``: word -> its compute capabilities ('ada' -> 'sm89'); none: it cannot be combined ('portable')
    - ``capabilities``: what it compiles for: individual ones, cards or generations, and combinations; empty for a backend
      that builds for the GPU of the machine it runs on
    - ``default``, with ``default_note`` to explain it in the help; ``summary`` and ``examples`` surround the words there
    - ``covers``: word that cannot be combined -> the compute capabilities among which the backend chooses
    - ``meanings``: target -> a description of its GPUs, for reports
    """

    names: Mapping[str, tuple[str, ...]]
    default: str
    default_note: str = ""
    capabilities: tuple[str, ...] = ()
    summary: str = ""
    examples: str = ""
    covers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> tuple[str, ...]:
        """All values, besides the names of cards and generations."""
        return (*self.names, *self.capabilities)

    @property
    def help(self) -> str:
        """The help text: the words and the default."""
        note = f", {self.default_note}" if self.default_note else ""
        return f"{self.summary}{', '.join(self.words)}{self.examples} (default: {self.default}{note})"

    @property
    def expected(self) -> str:
        """The words as listed in errors."""
        return ", ".join(self.names) + (", compute capabilities or card names" if self.capabilities else "")

    def capabilities_of(self, target: str) -> tuple[str, ...]:
        """What a canonical ``target`` is compiled for; empty if that is the GPU of the machine."""
        return self.covers.get(target) or capabilities_in(target)

    def fits(self, target: str, capability: str) -> bool:
        """Whether an engine for ``target`` can run on GPUs of ``capability`` ('sm89')."""
        known = capabilities_in(target) or self.capabilities
        return not known or capability in known


def meaning_of(option: str, word: str, own: Targets, others: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The meaning of one ``word`` of a target; ``others``: names that other backends have. Raises RequestError."""
    plain = word.lower().replace("-", "_")
    for names in (own.names, others, GENERATIONS):
        if plain in names:
            return names[plain] or (plain,)
    if (capability := capability_of(word)) is not None:
        return (capability,)
    choices = tuple(dict.fromkeys((*own.words, *others)))
    # For numbers, the closest spelling is no better a guess than any other.
    numeric = re.search(r"\d", word) and not re.search(r"[a-z]{3}", plain)
    hint = "" if numeric else nearest(word, (*choices, *CARDS))
    raise RequestError(
        f"{option} is '{shortened(word)}', expected one or more of {', '.join(choices)}, or the name of a card such as "
        f"'RTX 4090'{hint}"
    )


def joined_target(option: str, wanted: set[str]) -> str:
    """Capabilities, or a word that cannot be combined, as one canonical text: 'portable', 'sm86+sm89'. Raises RequestError."""
    alone = sorted(name for name in wanted if not number_of(name))
    if alone and len(wanted) > 1:
        raise RequestError(f"{option} combines '{alone[0]}' with other targets; give it alone or omit it")
    return "+".join(sorted(wanted, key=number_of))


def capabilities_in(target: str) -> tuple[str, ...]:
    """The compute capabilities that a canonical target names."""
    return tuple(name for name in target.split("+") if number_of(name))


def number_of(capability: str) -> int:
    """'sm120' -> 120, to sort and compare; 0 for a word."""
    found = re.fullmatch(r"sm(\d{2,4})", capability)
    return int(found[1]) if found else 0
