"""An option is one declaration: those of the throw-away backend are found wherever options are, with nothing edited."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from cmx4trt import backends
from cmx4trt.cli.command_line import _parser
from cmx4trt.cm.meta import written_anew
from cmx4trt.errors import RequestError
from cmx4trt.gui.form import form_from_meta
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.options import build_option, build_options, schema_of_request
from cmx4trt.store.fingerprint import engine_parts

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = {"name": "throwaway", "version": "0.1"}


@pytest.fixture(autouse=True)
def throwaway(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "tests" / "data" / "throwaway")
    import throwaway_backend

    with backends.registered(*throwaway_backend.BACKENDS):
        yield throwaway_backend
    sys.modules.pop("throwaway_backend")


@pytest.fixture
def meta() -> dict[str, Any]:
    """What ``_cm.yaml`` would be."""
    found: dict[str, Any] = yaml.safe_load(written_anew((ROOT / "_cm.yaml").read_text(encoding="utf-8")))
    return found


def test_in_the_request(throwaway: ModuleType) -> None:
    request = BuildRequest.from_values({"builder": "throwaway", "wrapping": "String", "bin": "rubbish"})
    own = throwaway.ThrowawayOptions.of(request)
    assert (own.wrapping, own.bin) == ("string", str(Path("rubbish").absolute()))
    assert BuildRequest.from_dict(request.to_dict()) == request
    assert dict(request.summary())["wrapping"] == "string"
    assert BuildRequest.from_values({"builder": "throwaway"}).value("wrapping") == "paper"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"builder": "throwaway", "wrapping": "gold"}, "wrapping is 'gold', expected one of paper, string"),
        ({"builder": "throwaway", "bin": ""}, "bin is empty; write --bin=VALUE"),
        ({"wrapping": "string"}, "wrapping is for the builder throwaway, not tensorrt-rtx; leave it out"),
        ({"wraping": "string"}, "there is no option 'wraping'; did you mean 'wrapping'?"),
    ],
)
def test_it_is_checked(values: dict[str, str], words: str) -> None:
    with pytest.raises(RequestError) as error:
        BuildRequest.from_values(values)
    assert words in str(error.value)


def test_on_the_command_line_and_in_its_help() -> None:
    parser = _parser(["build"])
    assert parser.parse_args(["build", "--wrapping=string"]).wrapping == "string"
    text = next(a for a in parser._actions if a.choices).choices["build"].format_help()  # type: ignore[index]
    assert "Wrapping:\n  --wrapping {paper,string}" in text
    assert "throwaway: what engines are wrapped in (default: paper)" in " ".join(text.split())
    assert "  --bin PATH" in text


def test_in_the_fingerprint_if_it_shapes_the_engine_and_means_something() -> None:
    mine = engine_parts(BuildRequest.from_values({"builder": "throwaway"}), IDENTITY)
    assert mine["request.wrapping"] == "paper"
    assert "request.bin" not in mine
    assert "request.wrapping" not in engine_parts(BuildRequest.from_values({}), IDENTITY), "it is another backend's"


def test_in_the_schema_of_manifests() -> None:
    properties = schema_of_request()["properties"]
    assert properties["wrapping"] == {
        "description": "throwaway: what engines are wrapped in",
        "type": "string",
        "enum": ["paper", "string"],
    }
    assert properties["bin"]["type"] == ["string", "null"]


def test_in_cms_mapping_descriptions_and_mounts(meta: dict[str, Any]) -> None:
    assert meta["input_mapping"]["wrapping"] == "CMX4TRT_WRAPPING"
    row = meta["input_description"]["wrapping"]
    assert (row["desc"], row["choices"], row["default"]) == (
        build_option("wrapping").help,
        ["paper", "string"],
        "paper",
    )
    assert "bin" in meta["docker"]["input_paths"]
    assert [name for name in meta["input_mapping"] if name in {one.name for one in build_options()}] == [
        one.name for one in build_options()
    ]


def test_on_the_page(meta: dict[str, Any]) -> None:
    assert "wrapping" in {field.name for field in form_from_meta(meta).fields()}
