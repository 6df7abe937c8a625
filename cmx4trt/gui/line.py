"""From the values of a form to the equivalent ``cmr`` command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cmx4trt.errors import RequestError
from cmx4trt.frameworks.input import check_value
from cmx4trt.gui.form import Field, Form, Kind

Value = str | bool | None
"""The value of a field: a choice or text, on or off, or nothing."""

_BARE = re.compile(r"[A-Za-z0-9_.,:%@/+=-]*")
_TAG_SEPARATORS = re.compile(r"[\s,]")


@dataclass(frozen=True, slots=True)
class CmrLine:
    """``cmr`` with its arguments; a list, so that no shell is needed to run it."""

    tags: tuple[str, ...]
    variations: tuple[str, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()
    """(flag, the text after it: '=VALUE', '' or '-')"""

    def words(self) -> list[str]:
        """The arguments of ``cmr``."""
        tags = " ".join((*self.tags, *(f"_{name}" for name in self.variations)))
        return [tags, *(f"--{flag}{value}" for flag, value in self.flags)]

    def shell(self, separator: str = " ") -> str:
        """The command as typed in a shell; ``separator`` precedes each flag."""
        tags, *_ = self.words()
        quoted = [f'"{tags}"' if _BARE.fullmatch(tags.replace(" ", "")) else shlex.quote(tags)]
        for flag, value in self.flags:
            text = value[1:]
            safe = text if _BARE.fullmatch(text) else shlex.quote(text)
            quoted.append(f"--{flag}{value[:1]}{safe}")
        return "cmr " + separator.join(quoted)


def line_from_values(form: Form, tags: Sequence[str], values: Mapping[str, Value]) -> CmrLine:
    """The command for ``values`` (by the fields' keys); defaults are omitted. Checks nothing."""
    variations: list[str] = []
    flags: list[tuple[str, str]] = []
    for field in form.fields():
        value = values.get(field.key)
        if isinstance(value, str):
            value = value.strip()
        if field.kind is Kind.BOOLEAN:
            if value is not None and value != bool(field.default):
                flags.append((field.name, "" if value else "-"))
        elif value in (None, "", False) or (value == field.default and field.choices):
            continue
        elif field.kind in (Kind.CHOICE, Kind.TEXT):
            flags.append((field.name, f"={value}"))
        elif value is True:
            variations.append(field.name)
        else:
            variations.append(str(value) if field.kind is Kind.GROUP else f"{field.name}.{value}")
    return CmrLine(tuple(tags), tuple(variations), tuple(flags))


def check_values(form: Form, values: Mapping[str, Value]) -> None:
    """Reject what CM would execute, alter or split: it writes values unescaped into a generated shell script.

    The sentence is the same as that of this package's script. Raises RequestError.
    """
    for field in form.fields():
        value = values.get(field.key)
        if not isinstance(value, str):
            continue
        check_value("CM", f"--{field.flag}", value.strip())
        if field.kind in (Kind.VALUE, Kind.SWITCH_VALUE) and _TAG_SEPARATORS.search(value.strip()):
            raise RequestError(
                f"_{field.name} is '{value.strip()}', but CM ends a tag at a space or comma; give one word"
            )


def values_from_variations(form: Form, names: Sequence[str]) -> dict[str, Value]:
    """The values of the fields if these variations are requested by name. Raises RequestError for an unknown one."""
    values: dict[str, Value] = {}
    for name in names:
        field, value = _field_of(form, name)
        values[field.key] = value
    return values


def _field_of(form: Form, name: str) -> tuple[Field, Value]:
    base, dot, value = name.partition(".")
    for field in (*form.groups, *form.variations):
        if field.kind is Kind.GROUP and name in field.choices:
            return field, name
        if field.name == name and field.kind in (Kind.SWITCH, Kind.SWITCH_VALUE):
            return field, True
        if field.name == base and dot and field.kind in (Kind.VALUE, Kind.SWITCH_VALUE):
            return field, value
    raise RequestError(f"the script {form.alias} has no variation _{name}; omit it, and choose on the page")
