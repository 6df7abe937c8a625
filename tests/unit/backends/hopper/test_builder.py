"""What an engine of the builder hopper depends on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from cmx4trt.backends.hopper import Hopper
from cmx4trt.backends.hopper.choices import shipped_choices
from cmx4trt.requests.build import BuildRequest

GOOD = {"gpu": "NVIDIA H100", "milliseconds": {"1": {"classifier": {"streamed": 0.5}}}}


def request(choices: Path | str | None = None, **more: str) -> BuildRequest:
    values = {"builder": "hopper", "random_weights": 0, "calibration_data": "random"}
    return BuildRequest.from_values({**values, "kernel_choices": choices, **more})


def test_the_table_is_part_of_the_fingerprint_not_its_path(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("one.json", "same.json", "other.json"))
    one.write_text(json.dumps(GOOD))
    same.write_text(json.dumps(GOOD, indent=3))
    other.write_text(json.dumps({**GOOD, "gpu": "NVIDIA H200"}))
    parts = [Hopper().builder().identity(request(path)) for path in (one, same, other, None)]
    assert parts[0] == parts[1]
    assert parts[0]["choices"] != parts[2]["choices"]
    assert "choices" not in parts[3]


@pytest.mark.parametrize(("name", "card"), [("NVIDIA H200", "h200"), ("NVIDIA H100 80GB HBM3", "h100")])
def test_a_build_on_a_card_uses_the_table_of_the_card(name: str, card: str) -> None:
    there = SimpleNamespace(facts=SimpleNamespace(name=name))
    backend = Hopper(lambda index: there)  # type: ignore[arg-type, return-value]
    own = None if card == "h100" else shipped_choices(card).digest  # the default table is not named
    assert backend.builder().identity(request(device="cuda")).get("choices") == own
    assert "choices" not in backend.builder().identity(request()), "built for another machine"
    assert "choices" not in backend.builder().identity(request("h100", device="cuda"))
    assert backend.builder().identity(request("h200"))["choices"] == shipped_choices("h200").digest


def test_a_table_that_changes_meanwhile_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    path.write_text(json.dumps(GOOD))
    builder = Hopper().builder()
    before = builder.identity(request(path))
    path.write_text("{}")
    assert builder.identity(request(path)) == before
