"""GPUs by their common names: card -> compute capability.

Compute capabilities: NVIDIA, "CUDA GPU Compute Capability". Messages are composed from this data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cmx4trt.base.frozen import Frozen


class Capability(Frozen):
    """A compute capability: its generation and its cards, best known first."""

    generation: str
    cards: tuple[str, ...]


CAPABILITIES: Mapping[str, Capability] = {
    "sm60": Capability("Pascal", ("P100",)),
    "sm61": Capability("Pascal", ("P4", "P40", "GTX 1060", "GTX 1070", "GTX 1080", "TITAN Xp")),
    "sm70": Capability("Volta", ("V100", "TITAN V")),
    "sm75": Capability(
        "Turing",
        (
            *("T4", "T4G", "T400", "T600", "T1000", "TITAN RTX", "GTX 1650", "GTX 1660"),
            *("RTX 2050", "RTX 2060", "RTX 2070", "RTX 2080"),
            *("Quadro RTX 3000", "Quadro RTX 4000", "Quadro RTX 5000", "Quadro RTX 6000", "Quadro RTX 8000"),
        ),
    ),
    "sm80": Capability("Ampere", ("A100", "A30", "A800")),
    "sm86": Capability(
        "Ampere",
        (
            *("A40", "A10", "A10G", "A16", "A2", "RTX 3050", "RTX 3060", "RTX 3070", "RTX 3080", "RTX 3090"),
            *("RTX A400", "RTX A500", "RTX A1000", "RTX A2000", "RTX A3000", "RTX A4000", "RTX A4500", "RTX A5000"),
            *("RTX A5500", "RTX A6000"),
        ),
    ),
    "sm87": Capability("Ampere", ("Jetson AGX Orin", "Jetson Orin NX", "Jetson Orin Nano")),
    "sm89": Capability(
        "Ada",
        (
            *("L40S", "L40", "L4", "L20", "L2", "RTX 4050", "RTX 4060", "RTX 4070", "RTX 4080", "RTX 4090"),
            *("RTX 2000 Ada", "RTX 4000 Ada", "RTX 4000 SFF Ada", "RTX 4500 Ada", "RTX 5000 Ada", "RTX 6000 Ada"),
        ),
    ),
    "sm90": Capability("Hopper", ("H100", "H200", "GH200", "H20", "H800")),
    "sm100": Capability("Blackwell", ("B200", "GB200", "B100")),
    "sm103": Capability("Blackwell", ("B300", "GB300")),
    "sm110": Capability("Blackwell", ("Jetson AGX Thor", "Jetson Thor")),
    "sm120": Capability(
        "Blackwell",
        (
            *("RTX 5050", "RTX 5060", "RTX 5070", "RTX 5080", "RTX 5090", "RTX PRO 2000 Blackwell"),
            *("RTX PRO 4000 Blackwell", "RTX PRO 4500 Blackwell", "RTX PRO 5000 Blackwell", "RTX PRO 6000 Blackwell"),
        ),
    ),
    "sm121": Capability("Blackwell", ("GB10", "DGX Spark")),
}

_IRRELEVANT = re.compile(
    r"nvidia|geforce|tesla|generation|graphics|gpu|laptop|mobile|max-?q|\b\d+ ?gb\b"
    r"|\b(sxm\d?|pcie|nvl|hbm\de?|server|workstation|edition)\b"
)
_VARIANT = re.compile(r"(ti|super|d)+$")
"""Variants of a card that have the same compute capability."""


def _plain(name: str) -> str:
    """A name without parts that do not distinguish cards: makers, memory, case, spaces."""
    return re.sub(r"[^a-z0-9]", "", _IRRELEVANT.sub(" ", name.lower()))


_BY_CARD = {_plain(card): sm for sm, capability in CAPABILITIES.items() for card in capability.cards}
_BY_NUMBER = {sm[2:]: sm for sm in CAPABILITIES}
CARDS = tuple(card for capability in CAPABILITIES.values() for card in capability.cards)
GENERATIONS = {
    name: tuple(sm for sm, capability in CAPABILITIES.items() if capability.generation.lower() == name)
    for name in dict.fromkeys(capability.generation.lower() for capability in CAPABILITIES.values())
}
"""Generation -> all of its compute capabilities."""


def capability_of(name: str) -> str | None:
    """The compute capability, such as 'sm90', given by ``name`` itself or by the card of this name; None if there is neither.

    'sm90', 'sm_90', '9.0', 'H100', 'NVIDIA H100 80GB HBM3', 'RTX 4070 Ti', '4090'.
    """
    plain = _plain(name)
    number = re.fullmatch(r"(?:sm|compute|cc)?[ _-]*(\d+)\.?(\d)[af]?", name.strip().lower())
    if number and (found := _BY_NUMBER.get(number[1] + number[2])):
        return found
    for card in (plain, _VARIANT.sub("", plain)):
        if found := _BY_CARD.get(card) or (_BY_CARD.get(f"rtx{card}") if card.isdigit() else None):
            return found
    return None


def described(sm: str) -> str:
    """A compute capability, described: 'sm90 (Hopper: H100, H200, …)'."""
    known = CAPABILITIES.get(sm)
    if known is None:
        return sm
    cards = ", ".join(known.cards[:2]) + (", …" if len(known.cards) > 2 else "")
    return f"{sm} ({known.generation}: {cards})"
