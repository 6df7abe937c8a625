"""Reads untrusted JSON: every field is typed and bounded, no fields are missing or unknown, each problem is one sentence."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_SHOWN = 40
"""Number of characters of a wrong value shown in an error."""


def parse(text: bytes) -> Any:
    """The value of a JSON text. Raises ValueError for invalid JSON, repeated keys and numbers that are not finite."""
    try:
        return json.loads(text.decode(), object_pairs_hook=_without_duplicates, parse_constant=_not_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error


class Fields:
    """The fields of a JSON object, each read once; ``path`` names it in errors. All methods raise ValueError."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(path, value, "an object")
        self._left = dict(value)
        self.path = path

    def integer(self, name: str, low: int, high: int) -> int:
        """An integer between two bounds."""
        return integer(self._take(name), self._at(name), low, high)

    def number(self, name: str) -> float:
        """A finite number."""
        return number(self._take(name), self._at(name))

    def text(self, name: str, pattern: re.Pattern[str]) -> str:
        """A string that matches a pattern as a whole."""
        return text(self._take(name), self._at(name), pattern)

    def items(self, name: str, read: Callable[[Any, str], T], least: int, most: int) -> tuple[T, ...]:
        """A list, each item read by ``read``, which receives the item and its path."""
        return items(self._take(name), self._at(name), read, least, most)

    def mapping(self, name: str, key: re.Pattern[str], read: Callable[[Any, str], T], most: int) -> dict[str, T]:
        """An object with arbitrary keys that match a pattern."""
        value, path = self._take(name), self._at(name)
        if not isinstance(value, dict) or len(value) > most:
            raise _wrong(path, value, f"an object with up to {most} fields")
        return {text(k, f"a key of {path}", key): read(v, f"{path}.{k[:_SHOWN]}") for k, v in value.items()}

    def part(self, name: str, read: Callable[[Any, str], T]) -> T:
        """A field read by ``read``, which receives its value and path."""
        return read(self._take(name), self._at(name))

    def has(self, name: str) -> bool:
        """Whether an optional field is present."""
        return name in self._left

    def end(self) -> None:
        """Reject fields that were not read."""
        if self._left:
            raise ValueError(f"{self.path} has an unknown field {_shown(next(iter(self._left)))}")

    def _take(self, name: str) -> Any:
        if name not in self._left:
            raise ValueError(f"{self.path} lacks {name}")
        return self._left.pop(name)

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}"


@contextmanager
def fields(value: Any, path: str) -> Iterator[Fields]:
    """The fields of an object; at the end, unknown ones are rejected."""
    reader = Fields(value, path)
    yield reader
    reader.end()


def integer(value: Any, path: str, low: int, high: int) -> int:
    """``value`` as an integer between two bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _wrong(path, value, f"an integer from {low} to {high}")
    return value


def number(value: Any, path: str) -> float:
    """``value`` as a finite number."""
    if not isinstance(value, float) or not math.isfinite(value):
        raise _wrong(path, value, "a finite number with a decimal point")
    return value


def text(value: Any, path: str, pattern: re.Pattern[str]) -> str:
    """``value`` as a string that matches as a whole."""
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise _wrong(path, value, f"text like {pattern.pattern}")
    return value


def items(value: Any, path: str, read: Callable[[Any, str], T], least: int, most: int) -> tuple[T, ...]:
    """``value`` as a list, each item read by ``read``."""
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise _wrong(path, value, f"a list of {least} to {most}")
    return tuple(read(item, f"{path}[{index}]") for index, item in enumerate(value))


def _wrong(path: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{path} is {_shown(value)}, expected {expected}")


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of more than 128 bits"
    shown = ascii(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("it has a key twice")
    return result


def _not_finite(name: str) -> Any:
    raise ValueError(f"it has the number {name}")
