"""What an option is, and how one is declared: once, as a field of a class. Standard library only.

    class Asked(Frozen):
        batch_size: int = option(whole(1, 65536), "largest batch, in samples", default=1, group=WHAT)

``options_of(Asked)`` gives its options. Everything else follows from them: validation, command line, help, the JSON Schema of
manifests, the tables of docs/reference, CM's mapping and descriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from cmx4trt.base.frozen import Frozen, field, fields, replace
from cmx4trt.base.values import parse_bool, parse_choice, parse_int, parse_path, parse_size, parse_text

Parser = Callable[[str, object], Any]
"""From an option's name and what was given (text, or a Python value) to its value. Raises RequestError."""
Choices = tuple[str, ...] | Callable[[], tuple[str, ...]]

WHAT = "what to build"
WEIGHTS = "source of the weights"
TARGET = "target GPUs and memory"
TENSORS = "inputs and outputs of the engine"
INT8 = "int8"
OUTPUT = "verification and output"
GROUPS = (WHAT, WEIGHTS, TARGET, TENSORS, INT8)
"""Headings of the help, in this order; those that only backends and networks have follow, and OUTPUT is the last."""

_METADATA = "option"
_NONE = "null"
"""JSON Schema's type of None."""


class Kind(Frozen):
    """What values an option takes.

    - ``parse``: makes a value of what was given; ``from_record``: makes of a manifest's value what ``parse`` takes
    - ``json_type``, ``low``: of its values in a manifest; ``metavar``: in help
    - ``offered``: its values, where they are few; a function where they follow a registry
    - ``is_path``: names a file or folder; ``words``: what it may be instead
    """

    parse: Parser
    json_type: str = "string"
    low: int | None = None
    metavar: str = "VALUE"
    offered: Choices = ()
    is_path: bool = False
    words: tuple[str, ...] = ()
    from_record: Callable[[Any], Any] = lambda value: value


TEXT = Kind(parse_text)
PATH = Kind(parse_path, metavar="PATH", is_path=True)
YES_NO = Kind(parse_bool, json_type="boolean", metavar="{yes,no}")
SIZE = Kind(
    parse_size, json_type="integer", low=0, from_record=lambda size: f"{size}B" if isinstance(size, int) else size
)
"""Bytes; a bare number that a user gives is KiB, one in a manifest is bytes."""


def choice(choices: Choices) -> Kind:
    """One of ``choices``."""
    return Kind(lambda name, value: parse_choice(name, value, _listed(choices)), offered=choices)


def whole(low: int, high: int) -> Kind:
    """A whole number in ``low..high``."""
    return Kind(lambda name, value: parse_int(name, value, low, high), json_type="integer", low=low)


def path_or(*words: str) -> Kind:
    """A path, or one of ``words``."""

    def parse(name: str, value: object) -> str:
        word = str(value).strip().lower()
        return word if word in words else parse_path(name, value)

    return Kind(parse, metavar="PATH", is_path=True, words=words)


def _listed(choices: Choices) -> tuple[str, ...]:
    return choices() if callable(choices) else choices


class Option(Frozen):
    """One input, as it is declared.

    - ``name``: of the field; ``default``: as a user would give it, None where there is none; ``group``: its heading in the help
    - ``meaning``: for people, a function where it follows a registry; ``recorded``: what a manifest holds, where that is another
    - ``nullable``: whether a request may hold None
    - ``applies_to``: what alone it means something to: 'int8', or the networks or backends that own it; named first in the help
    - ``precisions``: those that it means something to, empty for all
    - ``refused_elsewhere``: whether it is an error to give it where it means nothing
    - ``shapes_engine``: whether the engine depends on its value; not where the fingerprint has another part for it
    - ``cm_key``: its environment key in CM, where that is none of ours; ``cm_default``: its default there, where that is another
      text; ``cm_variations``: whether its values are variations, too; ``cm_note``: what CM's description adds
    - ``commands``: of evaluations, those that take it; ``for_loadgen``: whether only LoadGen reads it
    """

    name: str
    kind: Kind
    meaning: str | Callable[[], str]
    default: Any = None
    group: str = ""
    recorded: str = ""
    nullable: bool = False
    applies_to: str = ""
    precisions: tuple[str, ...] = ()
    refused_elsewhere: bool = True
    shapes_engine: bool = True
    cm_key: str = ""
    cm_default: str = ""
    cm_variations: bool = False
    cm_note: str = ""
    commands: tuple[str, ...] = ()
    for_loadgen: bool = False

    @property
    def help(self) -> str:
        """What it means, for people."""
        meaning = self.meaning if isinstance(self.meaning, str) else self.meaning()
        first = self.applies_to or ", ".join(self.precisions)
        return f"{first}: {meaning}" if first else meaning

    @property
    def choices(self) -> tuple[str, ...]:
        """The values it takes; none where they are many."""
        return _listed(self.kind.offered)

    @property
    def key(self) -> str:
        """Its environment key in CM."""
        return self.cm_key or f"CMX4TRT_{self.name.upper()}"

    def parse(self, value: object) -> Any:
        """The value of what was given. Raises RequestError."""
        return self.kind.parse(self.name, value)

    def value_of(self, value: object) -> Any:
        """The same, where None stands for the default."""
        value = self.default if value is None else value
        return None if value is None else self.parse(value)

    def schema(self) -> dict[str, Any]:
        """JSON Schema of its value in a manifest."""
        kind = self.kind
        schema: dict[str, Any] = {"description": self.recorded or self.help}
        schema["type"] = [kind.json_type, _NONE] if self.nullable else kind.json_type
        if self.choices:
            schema["enum"] = [*self.choices, *([None] if self.nullable else [])]
        if kind.low is not None:
            schema["minimum"] = kind.low
        return schema


def option(kind: Kind, meaning: str | Callable[[], str], **facts: Any) -> Any:
    """The declaration of a field as an option; ``facts`` are those of ``Option``. The constructor has to be given its value."""
    return field(metadata={_METADATA: Option("", kind, meaning, **facts)})


def question(kind: Kind, meaning: str | Callable[[], str], *, default: Any = None, **facts: Any) -> Any:
    """The same, where the constructor may be left to its ``default``, which is a value."""
    return field(default=default, metadata={_METADATA: Option("", kind, meaning, default=default, **facts)})


_declared: dict[tuple[type[Frozen], str], tuple[Option, ...]] = {}


def options_of(declared: type[Frozen], applies_to: str = "") -> tuple[Option, ...]:
    """The options that a class declares, in the order of its fields."""
    key = (declared, applies_to)
    if key not in _declared:
        _declared[key] = tuple(
            replace(one, name=f.name, nullable="None" in f.type.split(" | "), applies_to=one.applies_to or applies_to)
            for f in fields(declared)
            if (one := f.metadata.get(_METADATA)) is not None
        )
    return _declared[key]


class HasOwn(Protocol):
    """What carries the values of options that networks and backends own."""

    @property
    def own(self) -> Mapping[str, Any]:
        """Option -> value, of all networks and backends."""


Own = TypeVar("Own", bound="OwnOptions")


class OwnOptions(Frozen):
    """Base of the classes in which networks and backends declare the options that they own."""

    @classmethod
    def of(cls: type[Own], request: HasOwn) -> Own:
        """Their values in a request, typed."""
        return cls(**{one.name: request.own[one.name] for one in options_of(cls)})
