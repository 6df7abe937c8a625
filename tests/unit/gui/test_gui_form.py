"""From ``_cm.yaml`` to fields: of this package's script, of small examples, and of every script that CM ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmx4trt.errors import RequestError
from cmx4trt.gui.form import Form, Kind, form_from_meta, read_meta

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def meta() -> dict[str, Any]:
    return read_meta(str(ROOT))


@pytest.fixture(scope="module")
def form(meta: dict[str, Any]) -> Form:
    return form_from_meta(meta)


def example(text: str) -> Form:
    return form_from_meta(yaml.safe_load(text))


def test_groups_come_in_the_files_order(form: Form, meta: dict[str, Any]) -> None:
    assert [field.name for field in form.groups] == meta["variation_groups_order"]
    assert {field.name: field.default for field in form.groups} == {
        "device": "cpu",
        "model": "resnet50",
        "builder": None,
        "precision": None,
    }
    for field in form.groups:
        members = [name for name, body in meta["variations"].items() if body.get("group") == field.name]
        assert list(field.choices) == members
        assert all(field.note(choice) for choice in members), "a choice without a word about it"


def test_every_variation_is_asked_for_once(form: Form, meta: dict[str, Any]) -> None:
    plain = {name for name in meta["variations"] if "," not in name}
    asked = [choice for field in form.groups for choice in field.choices]
    for field in form.variations:
        if field.kind is not Kind.VALUE:
            asked.append(field.name)
        if field.kind is not Kind.SWITCH:
            asked.append(f"{field.name}.#")
    assert sorted(asked) == sorted(plain)


def test_every_input_is_asked_for_once(form: Form, meta: dict[str, Any]) -> None:
    """By a field of its own, or by the variations that set the same key."""
    asked = [field.flag for field in (*form.groups, *form.variations) if field.flag in meta["input_mapping"]]
    own = [field.name for section in form.sections for field in section.fields]
    assert not set(own) & {"network", "device", "builder", "precision", "batch_size", "copy_streams", "random_weights"}
    # _verify and --verify are two things: accuracy after the build, and the comparison before publishing. --sweep is the file
    # of _sweep.
    assert {*asked} & {*own} == {"verify", "sweep"}
    assert {*asked, *own} == set(meta["input_mapping"])
    assert len(own) == len(set(own))


def test_variations_take_description_and_default_from_the_input_of_the_same_key(form: Form) -> None:
    fields = {field.name: field for field in form.variations}
    batch = fields["batch_size"]
    assert (batch.kind, batch.flag, batch.default) == (Kind.VALUE, "batch_size", "1")
    assert "Largest batch" in batch.help
    assert fields["random-weights"].kind is Kind.SWITCH_VALUE
    assert fields["random-weights"].flag == "random_weights"
    assert fields["bench"].kind is Kind.SWITCH
    assert all(field.help for field in form.variations)


def test_sections_follow_the_descriptions(form: Form) -> None:
    sections = {section.only_with: [field.name for field in section.fields] for section in form.sections}
    assert {"scenario", "model", "target", "output_dir", "dry_run"} <= set(sections[()])
    assert "calibration_cache" in sections["int8",]
    assert "nms_offset" in sections["retinanet",]
    assert "common_code" in sections["common-code",]
    assert "timing_cache" in sections["tensorrt",]
    assert "execute" in sections["verify", "bench"]
    titles = [section.title for section in form.sections]
    assert titles[0] == "Options"
    assert "Only with verify or bench" in titles


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, {"device": "cpu", "model": "resnet50", "builder": "tensorrt-rtx", "precision": "fp16"}),
        ({"device": "cuda"}, {"device": "cuda", "builder": "common-code", "precision": "int8"}),
        ({"device": "cuda", "builder": "tensorrt"}, {"builder": "tensorrt", "precision": "fp16"}),
        ({"precision": "bf16", "model": "retinanet"}, {"builder": "tensorrt-rtx", "precision": "bf16"}),
    ],
)
def test_what_automatic_means(form: Form, chosen: dict[str, str], expected: dict[str, str]) -> None:
    assert form.automatic(chosen).items() >= expected.items()


def test_kinds_of_inputs() -> None:
    form = example(
        """
        alias: lab
        tags: [a, b]
        input_mapping: {speed: LAB_SPEED, fast: LAB_FAST, only_mapped: LAB_ONLY, slow: LAB_SLOW, words: LAB_WORDS}
        default_env: {LAB_ONLY: '7'}
        input_description:
          words: just a sentence
          speed: {desc: How fast, choices: [1, 2], default: 1, sort: 2}
          fast: {desc: Go, boolean: true, sort: 1}
          slow: {boolean: true, default: 'yes', sort: 3}
        """
    )
    (section,) = form.sections
    assert [(f.name, f.kind, f.default) for f in section.fields] == [
        ("words", Kind.TEXT, None),
        ("fast", Kind.BOOLEAN, False),
        ("speed", Kind.CHOICE, "1"),
        ("slow", Kind.BOOLEAN, True),
        ("only_mapped", Kind.TEXT, "7"),
    ]
    assert section.fields[0].help == "just a sentence"
    assert (form.title, form.tags) == ("lab", ("a", "b"))


def test_odd_variations() -> None:
    """Empty bodies, second names, combinations, a default of false, a '#' inside: as CM takes them, or left out."""
    form = example(
        """
        variations:
          empty:
          other: {alias: empty}
          'a,b': {env: {K: v}}
          in.#.side: {env: {K: '#'}}
          a: {group: g, default: false}
          b: {group: g}
          solo.#: {env: {K: '#'}}
        """
    )
    assert [(field.name, field.kind) for field in form.variations] == [("empty", Kind.SWITCH), ("solo", Kind.VALUE)]
    assert [(field.name, field.choices, field.default) for field in form.groups] == [("g", ("a", "b"), "a")]


def test_an_input_set_by_part_of_a_group_only_is_still_asked_for() -> None:
    form = example(
        """
        input_mapping: {size: LAB_SIZE, kind: LAB_KIND}
        variations:
          big: {group: g, env: {LAB_KIND: b, LAB_SIZE: '9'}}
          small: {group: g, env: {LAB_KIND: s}}
        """
    )
    assert [field.name for section in form.sections for field in section.fields] == ["size"]
    assert form.groups[0].flag == "kind"


@pytest.mark.parametrize(
    ("desc", "only_with", "rest"),
    [
        ("int8: a cache", ("int8",), "A cache"),
        ("For int8, a cache", ("int8",), "A cache"),
        ("_verify, _bench: where logs go", ("verify", "bench"), "Where logs go"),
        ("For _verify and _bench, where logs go", ("verify", "bench"), "Where logs go"),
        ("INT8: a cache", ("int8",), "A cache"),
        ("units: seconds", (), "units: seconds"),
        ("int8, mostly: a cache", (), "int8, mostly: a cache"),
        ("plain words", (), "plain words"),
    ],
)
def test_conditions(desc: str, only_with: tuple[str, ...], rest: str) -> None:
    form = form_from_meta({"variations": {"int8": {}, "verify": {}, "bench": {}}, "input_description": {"x": desc}})
    field = form.sections[0].fields[0]
    assert (field.only_with, field.help) == (only_with, rest)


@pytest.mark.parametrize(("name", "label"), [("nms_offset", "NMS offset"), ("copy_streams", "Copy streams")])
def test_labels(form: Form, name: str, label: str) -> None:
    assert next(field for field in form.fields() if field.name == name).label == label


def test_no_two_fields_have_the_same_label(form: Form) -> None:
    fields = [*form.groups, *form.variations, *(field for section in form.sections for field in section.fields)]
    labels = [field.label for field in fields]
    assert len(set(labels)) == len(labels)
    assert {"Model", "Model (--model)", "Verify", "Verify (--verify)"} <= set(labels)


def test_every_script_of_cm_has_a_form() -> None:
    spec = importlib.util.find_spec("cmx4mlops")
    if spec is None or spec.origin is None:
        pytest.skip("CM's scripts are not installed (pip install cmx4mlops)")
    metas = sorted((Path(spec.origin).parent / "repo" / "script").glob("*/_cm.yaml"))
    assert len(metas) > 200
    for path in metas:
        form = form_from_meta(read_meta(str(path.parent)))
        keys = [field.key for field in form.fields()]
        assert len(keys) == len(set(keys)), path
        assert all(field.label for field in form.fields()), path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot read"),
        ("a: [", "is not YAML"),
        ("", "is empty"),
        ("- a", "not a mapping"),
        (b"\xff\xfe\xff", "not YAML"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: str | bytes | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "_cm.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RequestError, match=expected) as caught:
        read_meta(str(tmp_path))
    assert "\n" not in str(caught.value)
