"""From what a user typed to a value: each parser raises RequestError with one sentence that names the option."""

from __future__ import annotations

import os

from cmx4trt.base.damage import MAX_DIGITS, shortened
from cmx4trt.base.quantities import binary_size
from cmx4trt.errors import RequestError

RANDOM_DATA = "random"
"""``calibration_data`` for networks with random weights: seeded normal images."""
KIB = 1024
_SIZE_UNITS = {"": KIB, "b": 1, "kib": KIB, "mib": KIB**2, "gib": KIB**3, "kb": 10**3, "mb": 10**6, "gb": 10**9}
MIN_WORKSPACE = 16 * KIB**2
"""Less is a mistake in the unit: with 4 MiB (4194304 taken for bytes) TensorRT-RTX 1.7 fails, asking for 55,255,248 bytes
(ResNet-50, float16, batch 256)."""


def nearest(value: str, choices: tuple[str, ...]) -> str:
    """The end of an error sentence: the choice nearest to ``value``, or nothing."""
    from difflib import get_close_matches

    close = get_close_matches(value.lower(), [c.lower() for c in choices], n=1)
    if not close:
        return ""
    return f"; did you mean '{next(c for c in choices if c.lower() == close[0])}'?"


def parse_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """The member of ``choices`` that ``value`` names, in its spelling; case does not matter."""
    text = parse_text(name, value)
    for choice in choices:
        if text.lower() == choice.lower():
            return choice
    hint = nearest(text, choices)
    raise RequestError(f"{name} is '{shortened(text)}', expected one of {', '.join(choices)}{hint}")


def parse_int(name: str, value: object, low: int, high: int) -> int:
    """A whole number in ``low..high``."""
    text = str(value).strip()
    digits = text[1:] if text[:1] in "+-" else text
    if isinstance(value, (bool, float)) or not (digits.isascii() and digits.isdigit()):
        raise RequestError(f"{name} is '{shortened(text)}', expected a whole number from {low} to {high}")
    significant = digits.lstrip("0") or "0"
    if (
        len(significant) > MAX_DIGITS
        or not low <= (number := int(text[: len(text) - len(digits)] + significant)) <= high
    ):
        raise RequestError(f"{name} is {shortened(text)}, expected a whole number from {low} to {high}")
    return number


def parse_size(name: str, value: object) -> int:
    """Bytes from text: a bare number is KiB (as in CM_TENSORRT_WORKSPACE_SIZE), a suffix such as MiB or GB sets the unit."""
    text = parse_text(name, value).replace(" ", "")
    digits = text.rstrip("BKMGbkmgi")
    unit = _SIZE_UNITS.get(text[len(digits) :].lower())
    if unit is None or not (digits.isascii() and digits.isdigit()) or len(digits) > MAX_DIGITS:
        raise RequestError(f"{name} is '{shortened(text)}', expected a size such as 4194304 (KiB), 512MiB or 4GiB")
    size = int(digits) * unit
    if not MIN_WORKSPACE <= size < 2**48:
        raise RequestError(
            f"{name} is {binary_size(size)}, expected at least {binary_size(MIN_WORKSPACE)} (and less than 256 TiB)"
        )
    return size


def parse_bool(name: str, value: object) -> bool:
    """yes/no, true/false, on/off, 1/0 or a Python bool."""
    if isinstance(value, bool):
        return value
    text = parse_text(name, value).lower()
    if text in ("yes", "true", "on", "1"):
        return True
    if text in ("no", "false", "off", "0"):
        return False
    raise RequestError(f"{name} is '{shortened(text)}', expected yes or no")


def parse_path(name: str, value: object) -> str:
    """An absolute path; '~' is the home folder."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else parse_text(name, value)
    if "\0" in text:
        raise RequestError(f"{name} holds a NUL character, which no path can")
    return absolute_path(text)


def absolute_path(path: str) -> str:
    """``path`` seen from the current folder; '~' is the home folder. Raises RequestError where the folder was deleted."""
    try:
        return os.path.abspath(os.path.expanduser(path))
    except FileNotFoundError as error:
        raise RequestError(
            "the current folder was deleted, so that the name of a file in it means nothing; change to another folder"
        ) from error


def parse_text(name: str, value: object) -> str:
    """Text that says something, without the blanks around it."""
    if isinstance(value, bool):
        raise RequestError(f"{name} was given without a value; write --{name}=VALUE, with the equals sign")
    text = str(value).strip()
    if not text:
        raise RequestError(f"{name} is empty; write --{name}=VALUE")
    return text
