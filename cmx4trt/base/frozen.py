"""Frozen classes of fields, which cost next to nothing to define.

    class Size(Frozen):
        width: int
        height: int = 1

``dataclasses`` writes and compiles the methods of every class (0.4 to 0.7 ms each) and imports ``inspect`` (10 ms): too much for
a reuse hit, on whose way about forty classes are defined, most of them to be used once. Here all classes share their methods.
The rest of the package uses ``dataclasses``, whose ``replace``, ``fields`` and ``asdict`` take these classes, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**facts: Any) -> Callable[[type], type]:
        """Tells type checkers alone."""
        return lambda cls: cls


NO_DEFAULT: Any = object()
_NOTHING: Mapping[str, Any] = {}

Self = TypeVar("Self", bound="Frozen")


class Field:
    """A field as it is declared: ``default``, or ``default_factory`` which makes it; ``name`` and ``type`` (the annotation's
    text) are those of the attribute."""

    __slots__ = ("default", "default_factory", "metadata", "name", "type")

    def __init__(
        self,
        default: Any = NO_DEFAULT,
        default_factory: Callable[[], Any] | None = None,
        metadata: Mapping[str, Any] = _NOTHING,
    ) -> None:
        self.default = default
        self.default_factory = default_factory
        self.metadata = metadata
        self.name = ""
        self.type = ""

    @property
    def required(self) -> bool:
        """Whether the constructor has to be given its value."""
        return self.default is NO_DEFAULT and self.default_factory is None


def field(
    *,
    default: Any = NO_DEFAULT,
    default_factory: Callable[[], Any] | None = None,
    metadata: Mapping[str, Any] = _NOTHING,
) -> Any:
    """A field with more than a plain default."""
    return Field(default, default_factory, metadata)


class _DataclassFields:
    """What makes the functions of ``dataclasses`` take such a class: its fields as theirs, made when they are asked for."""

    def __get__(self, instance: object, owner: type[Frozen]) -> dict[str, Any]:
        import dataclasses

        made = []
        for one in owner.__frozen_fields__:
            factory = dataclasses.MISSING if one.default_factory is None else one.default_factory
            default = dataclasses.MISSING if one.default is NO_DEFAULT else one.default
            facts: dict[str, Any] = {"default": default, "default_factory": factory, "metadata": one.metadata}
            made.append((one.name, one.type, dataclasses.field(**facts)))
        found: dict[str, Any] = dataclasses.make_dataclass(owner.__name__, made, kw_only=True).__dataclass_fields__  # type: ignore[attr-defined]
        return found


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Frozen:
    """Base of classes whose annotated names are fields: of the constructor, of equality, and never to be changed."""

    __frozen_fields__: tuple[Field, ...] = ()
    if not TYPE_CHECKING:  # which knows by dataclass_transform
        __dataclass_fields__ = _DataclassFields()

        def __init__(self, *values: Any, **named: Any) -> None:
            """Raises TypeError where the values do not fit the fields."""
            fields, own = self.__frozen_fields__, self.__dict__
            if len(values) > len(fields):
                raise TypeError(f"{type(self).__name__}() takes {len(fields)} values, got {len(values)}")
            for one, value in zip(fields, values):  # noqa: B905  # strict would not do: the rest may be named
                own[one.name] = value
            for one in fields[len(values) :]:
                name = one.name
                if name in named:
                    own[name] = named.pop(name)
                elif one.default is not NO_DEFAULT:
                    own[name] = one.default
                elif one.default_factory is not None:
                    own[name] = one.default_factory()
                else:
                    raise TypeError(f"{type(self).__name__}() needs '{name}'")
            if named:
                raise TypeError(f"{type(self).__name__}() does not take '{next(iter(named))}', or got it twice")
            self.__post_init__()

    def __init_subclass__(cls, **facts: Any) -> None:
        """Its annotated names become fields. Raises TypeError for a default that could be changed."""
        super().__init_subclass__(**facts)
        found = {one.name: one for base in reversed(cls.__mro__[1:]) for one in getattr(base, "__frozen_fields__", ())}
        for name, annotation in cls.__annotations__.items():
            given = cls.__dict__.get(name, NO_DEFAULT)
            if type(given).__module__ == "dataclasses":
                raise TypeError(
                    f"{cls.__name__}.{name} is declared with dataclasses.field; use cmx4trt.base.frozen.field"
                )
            one = given if isinstance(given, Field) else Field(given)
            one.name, one.type = name, annotation
            if one.default is not NO_DEFAULT and type(one.default).__hash__ is None:
                raise TypeError(f"{cls.__name__}.{name}: all instances would share one {type(one.default).__name__}")
            if given is not NO_DEFAULT:
                delattr(cls, name)  # the instances have it
            found[name] = one
        cls.__frozen_fields__ = tuple(found.values())

    def __post_init__(self) -> None:
        """For subclasses: called when all fields have their values."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Raises AttributeError."""
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        """Raises AttributeError."""
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        """Whether both are of the same class, with the same values."""
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        """Of the values. Raises TypeError where one has none."""
        return hash(self._values())

    def __repr__(self) -> str:
        """As it would be made."""
        shown = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in self.__frozen_fields__)
        return f"{type(self).__qualname__}({shown})"

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, one.name) for one in self.__frozen_fields__)


def fields(of: type[Frozen] | Frozen) -> tuple[Field, ...]:
    """The fields of a class or an instance, those of its bases first."""
    return of.__frozen_fields__


def replace(one: Self, **changes: Any) -> Self:
    """The same with other values of some fields."""
    return type(one)(**{**{f.name: getattr(one, f.name) for f in fields(one)}, **changes})
