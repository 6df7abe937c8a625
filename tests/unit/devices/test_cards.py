"""Cards by the names people type, and which builders serve them."""

from __future__ import annotations

import pytest

from cmx4trt.backends import all_backends, backend_of, how_to_build_for, parse_target
from cmx4trt.devices import cards
from cmx4trt.devices.gpus import GPUS


@pytest.mark.parametrize(
    ("name", "sm"),
    [
        *[
            (name, "sm90")
            for name in ("sm90", "SM_90", "sm_90a", "9.0", "H100", "h200", "NVIDIA H100 80GB HBM3", "H100 PCIe")
        ],
        *[
            (name, "sm89")
            for name in ("RTX 4090", "rtx4090", "4090", "L40S", "GeForce RTX 4070 Ti SUPER", "RTX 4090 D", "l4")
        ],
        ("RTX 6000 Ada Generation", "sm89"),
        ("NVIDIA GeForce RTX 4060 Laptop GPU", "sm89"),
        ("A100-SXM4-80GB", "sm80"),
        ("RTX A6000", "sm86"),
        ("Quadro RTX 6000", "sm75"),
        ("Tesla T4", "sm75"),
        ("B200", "sm100"),
        ("RTX PRO 6000 Blackwell Server Edition", "sm120"),
        ("DGX Spark", "sm121"),
        ("V100", "sm70"),
    ],
)
def test_names(name: str, sm: str) -> None:
    assert cards.capability_of(name) == sm


@pytest.mark.parametrize("name", ["", "card", "sm95", "RTX", "RTX 6000", "ti", "H", "90.0", "12345", "rtx 4090 4080"])
def test_what_names_no_card(name: str) -> None:
    """'RTX 6000' is sold in three generations."""
    assert cards.capability_of(name) is None


def test_every_name_is_its_own() -> None:
    for sm, capability in cards.CAPABILITIES.items():
        for card in capability.cards:
            assert cards.capability_of(card) == sm, card


def test_the_tables_agree() -> None:
    for gpu in GPUS:
        assert cards.capability_of(gpu.name) == gpu.sm
        assert cards.CAPABILITIES[gpu.sm].generation == gpu.architecture


def test_targets_and_services_of_backends_are_in_the_table() -> None:
    for backend in all_backends():
        named = {name for names in backend.targets.names.values() for name in names}
        assert {*named, *backend.serves, *backend.targets.capabilities} <= set(cards.CAPABILITIES)


def test_a_builder_is_named_by_data() -> None:
    assert how_to_build_for("sm89").startswith("use _cpu (--builder=tensorrt-rtx) on any machine, or _cuda,_tensorrt ")
    assert how_to_build_for("sm90", but="tensorrt-rtx").startswith("use _cuda,_tensorrt ")
    assert how_to_build_for("sm70") == "no builder of this release supports it"


@pytest.mark.parametrize(
    ("text", "target"), [("RTX 4090, A40", "sm86+sm89"), ("l40s+ada", "sm89"), ("2080 Ti, sm_86", "sm75+sm86")]
)
def test_targets(text: str, target: str) -> None:
    assert parse_target("target", text, backend_of("tensorrt-rtx")) == target
