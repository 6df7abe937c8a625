"""Deterministic damage: a file's bytes -> other bytes, by a seed. Used by attacks.py."""

from __future__ import annotations

import random
from collections.abc import Callable

Mutation = Callable[[random.Random, bytes], bytes]

_DIGITS = b"0123456789"
TOKENS = (
    *(
        b"9" * 5000,
        b"-" + b"7" * 5000,
        b"9" * 39,
        b"1e999",
        b"-1e999",
        b"NaN",
        b"Infinity",
        b"-1",
        b"0",
        b"null",
        b"true",
    ),
    *(
        b"[" * 100000,
        b'{"a":' * 50000,
        b"(" * 3000,
        b'""',
        b"{}",
        b"[]",
        b"\xff\xfe",
        b"\xc3",
        b"\x00",
        b"\xed\xa0\x80",
    ),
    *(
        b"\x1b]0;owned\x07",
        b"\x1b[2J",
        b"\xc2\x9b31m",
        "\u202e".encode(),
        b"\r\n",
        b"\n\n",
        b"../../etc/passwd",
        b"\xef\xbb\xbf",
    ),
    *(b": ", b"=", b",", b" " * 2000, b"'", b'\\"', b"#"),
)
"""What parsers stumble over: long numbers, deep brackets, invalid UTF-8, terminal escape sequences, separators."""


def _flip(r: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(r.choice((1, 1, 2, 8))):
        out[r.randrange(len(out))] ^= 1 << r.randrange(8)
    return bytes(out)


def _set(r: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    out[r.randrange(len(out))] = r.choice((0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x22, 0x5B))
    return bytes(out)


def _span(r: random.Random, data: bytes) -> tuple[int, int]:
    start = r.randrange(len(data))
    return start, min(len(data), start + r.choice((1, 2, 4, 16, 256)))


def _cut(r: random.Random, data: bytes) -> bytes:
    start, end = _span(r, data)
    return data[:start] + data[end:]


def _repeat(r: random.Random, data: bytes) -> bytes:
    start, end = _span(r, data)
    return data[:end] + data[start:end] * r.choice((1, 3)) + data[end:]


def _truncate(r: random.Random, data: bytes) -> bytes:
    return data[: r.randrange(len(data))]


def _insert(r: random.Random, data: bytes) -> bytes:
    place = r.randrange(len(data) + 1)
    return data[:place] + r.choice(TOKENS) + data[place:]


def _overwrite(r: random.Random, data: bytes) -> bytes:
    start, end = _span(r, data)
    return data[:start] + r.choice(TOKENS) + data[end:]


def _number(r: random.Random, data: bytes) -> bytes:
    """Another number in place of one written in digits."""
    places = [i for i, byte in enumerate(data[:20000]) if byte in _DIGITS]
    if not places:
        return _insert(r, data)
    start = end = r.choice(places)
    while end < len(data) and data[end] in _DIGITS:
        end += 1
    return data[:start] + r.choice(TOKENS[:11]) + data[end:]


def _whole(r: random.Random, data: bytes) -> bytes:
    return r.choice((b"", r.randbytes(64), r.choice(TOKENS), data + data, data[::-1]))


MUTATIONS: tuple[Mutation, ...] = (_flip, _flip, _set, _cut, _repeat, _truncate, _insert, _overwrite, _number, _number)


def mutated(data: bytes, seed: str) -> bytes:
    """``data`` after one to three mutations, determined by ``seed``."""
    r = random.Random(seed)
    if r.random() < 0.03:
        return _whole(r, data)
    for _ in range(r.choice((1, 1, 1, 2, 3))):
        if data:
            data = r.choice(MUTATIONS)(r, data)
    return data
