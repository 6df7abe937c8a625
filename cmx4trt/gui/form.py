"""From a CM script's ``_cm.yaml`` to the fields of a form. Nothing here is specific to one script.

What is in the file, and the field it becomes:

- variations with a ``group``: one field per group; without a default it may be left to CM (``default_variations``)
- variations without a group: a switch; ``name.#``: a text field; both ``name`` and ``name.#``: a switch with a value
- inputs (``input_description``, ``input_mapping``): a choice, a switch or a text field, by ``choices``, ``boolean``, ``default``
- an input whose environment key is also set by a group or a ``name.#`` is the same question: that field takes over its
  description and default, and the input is not shown again
- an input described as "a, b: …" or "For a and b, …", where a and b are variations, applies only if one of them is chosen
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from cmx4trt.base.damage import MALFORMED
from cmx4trt.base.files import open_text
from cmx4trt.errors import RequestError

Meta = Mapping[str, Any]

_CONDITIONS = (re.compile(r"([^:]+): (.+)"), re.compile(r"For ([^,;]+)[,;] (.+)"))
_ABBREVIATIONS = frozenset({"cpu", "cuda", "fp16", "gpu", "nms", "qps"})
"""Words in names that are written in capitals in labels."""


class Kind(Enum):
    """The kind of input of a field."""

    GROUP = "group"
    """One variation of a group."""
    SWITCH = "switch"
    """A variation that is on or off."""
    VALUE = "value"
    """The text in place of ``#`` in a variation."""
    SWITCH_VALUE = "switch with value"
    """A variation that is on or off, with an optional text for its ``#``."""
    CHOICE = "choice"
    """An input with few values."""
    BOOLEAN = "boolean"
    """An input that is a flag without a value."""
    TEXT = "text"
    """An input of arbitrary text."""


@dataclass(frozen=True, slots=True)
class Field:
    """One question of the form.

    ``name`` is the group, the variation (without ``.#``) or the input; ``flag`` is the equivalent input, which names
    the field in error messages. ``default`` is the value if nothing is chosen; None: CM decides. ``notes``: choice -> its
    meaning. ``only_with``: the variations without which the field does not apply; empty: it always applies.
    ``value_help``: what the value of a SWITCH_VALUE means. ``namesake``: a group or variation has the same name.
    """

    kind: Kind
    name: str
    flag: str
    help: str = ""
    default: str | bool | None = None
    choices: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    only_with: tuple[str, ...] = ()
    value_help: str = ""
    namesake: bool = False

    @property
    def key(self) -> str:
        """A key that is unique in the form."""
        return f"{self.kind.value}:{self.name}"

    @property
    def label(self) -> str:
        """The name as shown to people."""
        words = re.split(r"[_\-. ]+", self.name)
        text = " ".join(w.upper() if w.lower() in _ABBREVIATIONS else w for w in words)
        return text[:1].upper() + text[1:] + (f" (--{self.name})" if self.namesake else "")

    def note(self, choice: str | None) -> str:
        """What a choice means, or nothing."""
        return self.notes.get(choice or "", "")


@dataclass(frozen=True, slots=True)
class Section:
    """Inputs that apply with the same variations; none: always."""

    only_with: tuple[str, ...]
    fields: tuple[Field, ...]

    @property
    def title(self) -> str:
        """For people."""
        return f"Only with {' or '.join(self.only_with)}" if self.only_with else "Options"


@dataclass(frozen=True, slots=True)
class Form:
    """All fields of a script, in the order of the page."""

    title: str
    alias: str
    tags: tuple[str, ...]
    groups: tuple[Field, ...]
    variations: tuple[Field, ...]
    sections: tuple[Section, ...]
    leads_to: Mapping[str, Mapping[str, str]]
    """Variation -> group -> the variation that it makes the default of that group."""

    def fields(self) -> tuple[Field, ...]:
        """Every field once."""
        return (*self.groups, *self.variations, *(one for section in self.sections for one in section.fields))

    def automatic(self, chosen: Mapping[str, str]) -> dict[str, str]:
        """Group -> the variation in effect: the ``chosen`` one, the group's default, or the default that these imply."""
        holds = {group.name: str(group.default) for group in self.groups if group.default is not None} | dict(chosen)
        for _ in self.groups:  # a default may imply the next group's default
            for variation in tuple(holds.values()):
                for name, default in self.leads_to.get(variation, {}).items():
                    holds.setdefault(name, default)
        return holds


def read_meta(folder: str) -> dict[str, Any]:
    """The ``_cm.yaml`` of a script's folder. Raises RequestError."""
    import yaml

    path = os.path.join(folder, "_cm.yaml")
    try:
        with open_text(path) as stream:
            meta = yaml.safe_load(stream)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}; give the tags of a CM script") from error
    except (yaml.YAMLError, *MALFORMED) as error:
        raise RequestError(f"{path} is not YAML ({' '.join(str(error).split())}); repair that script") from error
    if not isinstance(meta, dict):
        raise RequestError(f"{path} is empty or not a mapping, expected the keys of a CM script; repair that script")
    return meta


def form_from_meta(meta: Meta) -> Form:
    """The form of a script."""
    variations = _plain_variations(meta)
    inputs = _inputs(meta)
    asked_by = _inputs_asked_by_variations(meta, variations)
    groups = _group_fields(meta, variations, asked_by, inputs)
    others = _variation_fields(variations, asked_by, inputs)
    asked = {field.name for field in (*groups, *others)}
    rest = {name: row for name, row in inputs.items() if name not in asked_by.values()}
    leads_to = {
        name: {str(g): str(v) for g, v in (body.get("default_variations") or {}).items()}
        for name, body in variations.items()
    }
    return Form(
        title=str(meta.get("name") or meta.get("alias") or "CM script"),
        alias=str(meta.get("alias") or ""),
        tags=tuple(str(tag) for tag in meta.get("tags") or ()),
        groups=groups,
        variations=others,
        sections=_sections(
            [replace(f, namesake=f.name in asked) for f in _input_fields(meta, rest, tuple(variations))],
        ),
        leads_to=leads_to,
    )


def _plain_variations(meta: Meta) -> dict[str, Meta]:
    """Variations that can be requested individually: neither combinations nor aliases."""
    bodies = {
        str(name): body if isinstance(body, dict) else {} for name, body in (meta.get("variations") or {}).items()
    }
    return {name: body for name, body in bodies.items() if "," not in name and "alias" not in body}


def _inputs(meta: Meta) -> dict[str, Meta]:
    """Input -> its description, in the order of ``sort``; a description may be a plain sentence, or missing."""
    described = {
        str(name): row if isinstance(row, dict) else {"desc": str(row or "")}
        for name, row in (meta.get("input_description") or {}).items()
    }
    mapped: dict[str, Meta] = {str(name): {} for name in meta.get("input_mapping") or {} if name not in described}
    ordered = sorted(described, key=lambda name: _number(described[name].get("sort")))
    return {**{name: described[name] for name in ordered}, **mapped}


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _inputs_asked_by_variations(meta: Meta, variations: Mapping[str, Meta]) -> dict[str, str]:
    """Group, or variation with ``#`` -> the input that sets the same environment key."""
    input_of = {str(key): str(name) for name, key in (meta.get("input_mapping") or {}).items()}
    found: dict[str, str] = {}
    for group, members in _groups(meta, variations).items():
        keys = set.intersection(*(set(_environment(variations[name])) for name in members))
        if group in input_of.values():
            found[group] = group
        for key in keys & set(input_of):
            found[group] = input_of[key]
    for name, body in variations.items():
        for key, value in _environment(body).items():
            if name.endswith(".#") and value == "#" and key in input_of:
                found[name] = input_of[key]
    return found


def _environment(variation: Meta) -> dict[str, Any]:
    """What a variation sets."""
    return {**(variation.get("env") or {}), **(variation.get("default_env") or {})}


def _groups(meta: Meta, variations: Mapping[str, Meta]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {str(group): [] for group in meta.get("variation_groups_order") or ()}
    for name, body in variations.items():
        if body.get("group"):
            members.setdefault(str(body["group"]).strip(), []).append(name)
    return {group: names for group, names in members.items() if names}


def _group_fields(
    meta: Meta, variations: Mapping[str, Meta], asked_by: Mapping[str, str], inputs: Mapping[str, Meta]
) -> tuple[Field, ...]:
    fields = []
    for group, names in _groups(meta, variations).items():
        flag = asked_by.get(group, group)
        fields.append(
            Field(
                kind=Kind.GROUP,
                name=group,
                flag=flag,
                help=_text(inputs.get(flag, {}).get("desc")),
                default=next((name for name in names if "default" in variations[name]), None),
                choices=tuple(names),
                notes={name: _text(variations[name].get("desc")) for name in names},
            )
        )
    return tuple(fields)


def _variation_fields(
    variations: Mapping[str, Meta], asked_by: Mapping[str, str], inputs: Mapping[str, Meta]
) -> tuple[Field, ...]:
    """Variations without a group; ``name`` and ``name.#`` are one field."""
    names = dict.fromkeys(full.removesuffix(".#") for full, body in variations.items() if not body.get("group"))
    fields = []
    for name in names:
        if "#" in name:
            continue  # a '#' in the middle is not the value of one field
        plain, numbered = variations.get(name), variations.get(f"{name}.#")
        flag = asked_by.get(f"{name}.#", name)
        described = inputs.get(flag, {}) if numbered is not None else {}
        texts = ((body or {}).get("desc") for body in (plain, numbered, described))
        kind = Kind.SWITCH if numbered is None else Kind.VALUE if plain is None else Kind.SWITCH_VALUE
        help = next((_text(text) for text in texts if text), "")
        value_help = _text(described.get("desc")) if kind is Kind.SWITCH_VALUE else ""
        fields.append(Field(kind, name, flag, help, _text(described.get("default")) or None, value_help=value_help))
    return tuple(fields)


def _input_fields(meta: Meta, inputs: Mapping[str, Meta], variations: Sequence[str]) -> list[Field]:
    mapping, environment = meta.get("input_mapping") or {}, meta.get("default_env") or {}
    fields = []
    for name, row in inputs.items():
        choices = tuple(str(choice) for choice in row.get("choices") or ())
        default = row.get("default", environment.get(mapping.get(name)))
        kind = Kind.CHOICE if choices else Kind.BOOLEAN if row.get("boolean") else Kind.TEXT
        value: str | bool | None = _is_true(default) if kind is Kind.BOOLEAN else (_text(default) or None)
        only_with, help = _condition(_text(row.get("desc")), variations)
        fields.append(Field(kind, name, name, help, value, choices, only_with=only_with))
    return fields


def _condition(help: str, variations: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The variations that a description begins with, and the rest of it."""
    for pattern in _CONDITIONS:
        if found := pattern.fullmatch(help):
            words = [word.lower().lstrip("_") for word in re.split(r",? and |, ?| ", found[1])]
            names = tuple(name for name in variations if name.lower() in words)
            if len(names) == len(words):
                return names, found[2][:1].upper() + found[2][1:]
    return (), help


def _is_true(value: object) -> bool:
    return value is True or str(value).strip().lower() in ("yes", "true", "on", "1")


def _text(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())


def _sections(fields: Sequence[Field]) -> tuple[Section, ...]:
    conditions = dict.fromkeys(one.only_with for one in fields)
    return tuple(Section(names, tuple(one for one in fields if one.only_with == names)) for names in conditions)
