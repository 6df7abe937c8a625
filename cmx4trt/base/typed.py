"""Frozen classes that lie in files as JSON objects, and the one guard for files that others wrote or edited.

A field is written under its own name, or that of ``named``. A record that is absent (None) is an empty object; another None is
null, or missing if the field is ``absent()``. What is read must have the types of the fields; keys that no field has go into the
field that is ``rest()``, if there is one, and are passed over otherwise.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from cmx4trt.base.damage import shortened
from cmx4trt.base.frozen import Field, Frozen, field, fields

_NAME, _ABSENT, _REST = "name", "absent", "rest"
_WORDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Mapping: "an object",
    Sequence: "a list",
}

Self = TypeVar("Self", bound="Record")


class WrongRecordError(ValueError):
    """A value is not of the type that it has in the records of this package; the message names it."""


def named(name: str, **facts: Any) -> Any:
    """A field that is written under another name."""
    return field(metadata={_NAME: name}, **facts)


def absent(name: str = "") -> Any:
    """A field that is None by default, and then not written."""
    return field(default=None, metadata={_ABSENT: True, **({_NAME: name} if name else {})})


def rest() -> Any:
    """The field, a mapping, for the keys that no other field has: what a library, a network or a backend adds."""
    return field(default_factory=dict, metadata={_REST: True})


class Record(Frozen):
    """Base of such classes."""

    def __eq__(self, other: object) -> bool:
        """Whether both are the same record with the same values."""
        return type(other) is type(self) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        """Of the record's name: its values may be lists."""
        return hash(type(self).__qualname__)

    def __repr__(self) -> str:
        """The record's name and values."""
        return f"{type(self).__name__}({self.to_dict()})"

    @classmethod
    def from_dict(cls: type[Self], value: object, where: str = "") -> Self:
        """The record that ``to_dict`` wrote; ``where``: its name in sentences. Raises WrongRecordError for anything else."""
        if not isinstance(value, Mapping):
            raise WrongRecordError(f"{where or 'it'} is {_shown(value)}, expected an object")
        hints, found, known, others = _hints(cls), {}, set(), ""
        for one in fields(cls):
            if one.metadata.get(_REST):
                others = one.name
                continue
            name = _name(one)
            known.add(name)
            if name in value:
                found[one.name] = _read(hints[one.name], value[name], f"{where}.{name}".lstrip("."))
            elif one.required:
                raise WrongRecordError(f"{f'{where}.{name}'.lstrip('.')} is missing")
        if others:
            found[others] = {name: inner for name, inner in value.items() if name not in known}
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types."""
        written: dict[str, Any] = {}
        hints = _hints(type(self))
        for one in fields(self):
            value = getattr(self, one.name)
            if one.metadata.get(_REST):
                written.update(value)
            elif value is None and _record_in(hints[one.name]) is not None and not one.metadata.get(_ABSENT):
                written[_name(one)] = {}
            elif value is not None or not one.metadata.get(_ABSENT):
                written[_name(one)] = _written(value)
        return written


_known: dict[str, dict[str, Any]] = {}


def _hints(cls: type) -> dict[str, Any]:
    name = f"{cls.__module__}.{cls.__qualname__}"
    if name not in _known:
        _known[name] = get_type_hints(cls)
    return _known[name]


def _name(one: Field) -> str:
    return str(one.metadata.get(_NAME, one.name))


def _written(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {name: _written(inner) for name, inner in value.items()}
    return [_written(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _record_in(hint: Any) -> Any:
    """The record that a hint means, None where it means none."""
    choices = get_args(hint) if get_origin(hint) is types.UnionType else (hint,)
    return next((one for one in choices if isinstance(one, type) and issubclass(one, Record)), None)


def _read(hint: Any, value: object, where: str) -> Any:
    if hint is Any:
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        inner = next(one for one in arguments if one is not types.NoneType)
        nothing = value is None or (value == {} and _record_in(inner) is not None)
        return None if nothing else _read(inner, value, where)
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_dict(value, where)
    kind = origin or hint
    if kind is Mapping and isinstance(value, Mapping):
        return {name: _read(arguments[1], inner, f"{where}.{name}") for name, inner in value.items()}
    if kind is Sequence and isinstance(value, (list, tuple)):
        return [_read(arguments[0], inner, f"{where}[{place}]") for place, inner in enumerate(value)]
    plain = (int, float) if kind is float else kind
    if kind in (Mapping, Sequence) or not isinstance(value, plain) or (isinstance(value, bool) and kind is not bool):
        raise WrongRecordError(f"{where} is {_shown(value)}, expected {_WORDS[kind]}")
    return value


def _shown(value: object) -> str:
    return shortened(f"'{value}'" if isinstance(value, str) else repr(value))
