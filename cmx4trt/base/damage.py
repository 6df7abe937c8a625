"""What bytes can lead to that nobody checked before they were read: damaged files, files of another kind, hostile ones.

Every kind of file is read in one function, which turns all of MALFORMED into its sentence. Standard library only.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from typing import Any

MALFORMED = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError, SyntaxError),
    *(RuntimeError, MemoryError),  # nested too deep (RecursionError), a size that no memory holds
    *(struct.error, zlib.error),
)
"""What the standard library and numpy raise over content they cannot take. OSError is not among them: it is no damage. Nor
is zipfile's own error, which one reader catches itself: zipfile costs more to import than all else here."""

MAX_DIGITS = 40
"""Digits of an integer in a file: 2^64 has 20, and Python refuses to convert more than 4300."""
_LONGEST = 100
"""Characters of a value that an error sentence shows."""
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What a terminal acts on instead of showing it (ECMA-48's C0 and C1, and Unicode's directions); tabs and line ends are left."""


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, and nothing else, on any other text."""
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("brackets nested too deep") from None


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def reason(error: BaseException) -> str:
    """Why something could not be read, for the parentheses of an error sentence."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return shortened(str(error) if isinstance(error, ValueError) else repr(error))


def shortened(value: object) -> str:
    """A value as an error sentence shows it: long ones without their end."""
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def printable(text: str) -> str:
    """``text`` with what would command a terminal (escape sequences in names of files and layers) as visible escapes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def printable_json(text: str) -> str:
    """The same for a JSON text, which stays JSON of the same value: such characters stand in strings only."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
