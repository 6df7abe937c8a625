"""The engine file: the same bytes for the same engine, and one sentence for everything that is not intact."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import struct
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cmx4trt.backends.hopper.container import MAGIC, VERSION, read_engine, write_engine
from cmx4trt.backends.hopper.engine import Engine
from cmx4trt.backends.hopper.plan_checks import check_plan
from cmx4trt.backends.hopper.session import HopperSession
from cmx4trt.errors import DeviceError, ModelError

HEAD = struct.Struct("<8sIIQQ32s")
MUTATIONS = 3000
WEIGHTS = 1 << 18


@pytest.fixture
def engine(small: ModuleType) -> Engine:
    made: Engine = replace(small.engine(copy_streams=2), origin={"compiler": "NVRTC 12.9", "model_sha256": "0" * 64})
    return replace(made, weights=made.weights + bytes(range(256)) * (WEIGHTS // 256 - 2))


@pytest.fixture
def file(engine: Engine) -> bytes:
    return write_engine(engine)


def header_of(file: bytes) -> Any:
    return json.loads(file[HEAD.size : HEAD.size + HEAD.unpack_from(file)[2]])


def signed(file: bytes, header: Any) -> bytes:
    """The file with another header whose length and SHA-256 are right, and its sections where the header's length puts them."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    old_end = HEAD.size + HEAD.unpack_from(file)[2]
    rest = file[-(-old_end // 256) * 256 :]
    start = -(-(HEAD.size + len(text)) // 256) * 256
    data = text.ljust(start - HEAD.size, b"\0") + rest
    return HEAD.pack(MAGIC, VERSION, len(text), HEAD.size + len(data), 0, hashlib.sha256(text).digest()) + data


def refusal(file: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        read_engine(file, "some.engine")
    sentence = str(caught.value)
    assert sentence.startswith("some.engine is not a usable Hopper engine: ")
    assert sentence.endswith("; build it again")
    assert "\n" not in sentence
    assert len(sentence) < 700
    return sentence


def test_an_engine_comes_back_as_it_was(engine: Engine, file: bytes) -> None:
    loaded = read_engine(file, "some.engine")
    assert loaded.plan == engine.plan
    assert {name: bytes(cubin) for name, cubin in loaded.cubins.items()} == engine.cubins
    assert bytes(loaded.weights) == engine.weights
    assert (loaded.copy_streams, loaded.origin) == (engine.copy_streams, engine.origin)
    assert write_engine(loaded) == file, "written again it is the same file"


def test_sections_are_aligned(file: bytes) -> None:
    sections = header_of(file)["sections"]
    assert [section[0] for section in sections] == ["cubin", "cubin", "weights"]
    assert all(section[2] % 256 == 0 for section in sections)


def test_a_loaded_engine_runs(file: bytes, small: ModuleType, gpu: Any) -> None:
    session = HopperSession(read_engine(file, "some.engine"), gpu)
    data = np.arange(-64, 64, dtype=np.int8).reshape(2, 8, 8)
    np.testing.assert_array_equal(session.run({"data": data})["sum"], small.expected(data)[0])
    session.close()


def test_an_engine_that_could_not_be_read_is_not_written(engine: Engine) -> None:
    with pytest.raises(ValueError, match="takes bytes 0 to 832, expected 0 to 768"):
        write_engine(replace(engine, plan=replace(engine.plan, max_batch=7)))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 63, 64, 65, 300, 2000, -1])
def test_a_truncated_file_is_refused(file: bytes, size: int) -> None:
    assert "it " in refusal(file[:size])


def test_other_files_and_versions_are_refused(file: bytes) -> None:
    assert "does not start with an engine's signature" in refusal(b"ftrt" + file[4:])
    newer = HEAD.pack(MAGIC, VERSION + 1, *HEAD.unpack_from(file)[2:]) + file[HEAD.size :]
    assert f"it has format version {VERSION + 1}, expected {VERSION}" in refusal(newer)
    assert "(truncated or edited)" in refusal(file + b"\0")


def test_an_edited_byte_is_found_wherever_it_is(file: bytes) -> None:
    rng = random.Random(1)
    for position in (*range(HEAD.size), *(rng.randrange(len(file)) for _ in range(400))):
        edited = bytearray(file)
        edited[position] ^= 1 << rng.randrange(8)
        refusal(bytes(edited))


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("capability",), [10, 0], "it is for compute capability 10.0, expected 9.0"),
        (("least_cuda",), 13000, "its header requires CUDA 13000, its kernels 12000"),
        (("copy_streams",), 0, "header.copy_streams is 0, expected an integer from 1 to 64"),
        (("origin",), {"Who": "x"}, "a key of header.origin is 'Who', expected text like"),
        (("plan", "max_batch"), 7, "takes bytes 0 to 832, expected 0 to 768"),
        (("plan", "arena_bytes"), True, "plan.arena_bytes is True, expected an integer"),
        (("plan", "buffers", 0, 1), 240, "plan's buffer 'sums' takes bytes -16 to"),
        (("plan", "programs", 1, "first"), 4, "plan has a program for batches 4 to 6, expected 3 to"),
        (("plan", "programs", 1, "last"), 5, "plan has programs for batches up to 5, expected 6"),
        (
            ("plan", "kernels", 0, "threads"),
            1025,
            "plan.kernels[0].threads is 1025, expected an integer from 1 to 1024",
        ),
        (("plan", "kernels", 0, "name"), "a b", "plan.kernels[0].name is 'a b', expected text like"),
        (("plan", "kernels", 0, "name"), "reduce", "its sections are not the plan's kernels and the weights"),
        (
            ("plan", "programs", 0, "launches", 0, "kernel"),
            "other",
            "launches[0] launches the kernel 'other', which does not exist",
        ),
        (("plan", "programs", 0, "launches", 0, "reads"), ["other"], "reads or writes 'other', which does not exist"),
        (("plan", "programs", 0, "launches", 0, "grid", "blocks"), [1, -1], "has 0 to 0 blocks at batch 1"),
        (("plan", "programs", 0, "launches", 1, "grid", "multiple_of"), 3, "expected multiples of its cluster of 2"),
        (("plan", "programs", 0, "launches", 0, "arguments", 3, "amount"), [1 << 31, 0], "expected an int32"),
        (("plan", "programs", 0, "launches", 1, "arguments", 3, "float"), 1e39, "expected a float32"),
        (("plan", "programs", 0, "launches", 1, "arguments", 3), {"double": 1.0}, "is not one of amount, place, float"),
        (
            ("plan", "programs", 0, "launches", 0, "arguments", 1, "place", 2),
            WEIGHTS,
            "of the weights '', expected 0 to 262144",
        ),
        (
            ("plan", "programs", 0, "launches", 0, "arguments", 2, "place", 1),
            "none",
            "uses the buffer 'none', which does not exist",
        ),
        (("plan", "programs", 0, "launches", 0, "arguments", 2, "place", 2), -257, "expected -256 to 512"),
        (
            ("plan", "programs", 0, "launches", 0, "arguments", 2, "place", 0),
            "host",
            "place.space is 'host', expected text like",
        ),
    ],
)
def test_what_does_not_fit_together_is_one_sentence(file: bytes, path: Any, value: Any, sentence: str) -> None:
    header = header_of(file)
    part = header
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    assert sentence in refusal(signed(file, header))


TILED = ("plan", "programs", 1, "launches", 0, "arguments", 0, "tiled")
WINDOW = ("plan", "programs", 1, "launches", 1, "arguments", 0, "window")


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ((*TILED, "box"), [64, 257], "expected an integer from 1 to 256"),
        ((*TILED, "box"), [64], "expected 1 strides and a box of 2"),
        ((*TILED, "box"), [128, 1], "an inner box of 128 bytes, expected up to its swizzle of 64"),
        ((*TILED, "box"), [24, 1], "expected multiples of 16 bytes"),
        ((*TILED, "strides"), [72], "expected multiples of 16 bytes"),
        ((*TILED, "strides"), [128], "accesses bytes 0 to 704 of the input 'data', expected 0 to 384"),
        ((*TILED, "strides"), [1 << 40], "expected multiples of 16 bytes"),
        ((*TILED, "extents"), [[0, 64], [1, -3]], "extents [64, 0], expected 1 to 4294967296"),
        ((*TILED, "extents"), [[0, 64], [1, 1]], "accesses bytes 0 to 448 of the input 'data'"),
        ((*TILED, "extents"), [[0, 64]] * 6, "expected a list of 1 to 5"),
        ((*TILED, "swizzle"), 48, "swizzle is 48, expected one of 0, 32, 64, 128"),
        ((*TILED, "place"), ["input", "data", 8], "has a tensor map at offset 8"),
        ((*WINDOW, "stride"), 9, "stride is 9, expected an integer from 1 to 8"),
        ((*WINDOW, "pixels"), 1025, "expected an integer from 1 to 1024"),
        ((*WINDOW, "channels_per_pixel"), 272, "expected an integer from 1 to 256"),
        ((*WINDOW, "channels"), 8, "expected multiples of 16 bytes"),
        ((*WINDOW, "images"), [1, -3], "has a tensor map of 0 images"),
        ((*WINDOW, "images"), [2, 0], "accesses bytes 0 to 768 of the buffer 'sums', expected -256 to 512"),
        ((*WINDOW, "kernel"), 200, "expected an integer from 1 to 128"),
    ],
)
def test_limits_of_tensor_maps_are_the_drivers(file: bytes, path: Any, value: Any, sentence: str) -> None:
    test_what_does_not_fit_together_is_one_sentence(file, path, value, sentence)


def test_zeros_around_a_buffer_belong_to_nobody_else(file: bytes) -> None:
    header = header_of(file)
    header["plan"]["buffers"].append(["other", 640, 1, 0, 0])
    assert "plan's buffer 'other' overlaps the zeros around 'sums'" in refusal(signed(file, header))


def test_text_that_is_no_plain_json_is_refused(file: bytes) -> None:
    text = json.dumps(header_of(file)).encode()
    assert "it has a key twice" in refusal(signed(file, b'{"a":1,"a":2}'))
    assert "it has the number NaN" in refusal(signed(file, text.replace(b"0.5", b"NaN", 1)))
    assert "nested too deeply" in refusal(signed(file, b"[" * 2_000))
    assert "not UTF-8" in refusal(signed(file, b"\xff\xfe{}"))
    assert "Expecting" in refusal(signed(file, text[:-1]))
    assert "header is a list of 0, expected an object" in refusal(signed(file, b"[]"))


def test_a_header_of_many_small_values_takes_no_more_memory_than_the_file(file: bytes) -> None:
    data = signed(file, b"[" + b"[]," * 300_000 + b"[]]")
    tracemalloc.start()
    assert "values, expected up to" in refusal(data)
    assert tracemalloc.get_traced_memory()[1] < 2 * len(data)
    tracemalloc.stop()


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    found = []
    for key in value if isinstance(value, dict) else range(len(value)):
        found.append((value, key))
        if isinstance(value[key], (dict, list)):
            found += places_in(value[key])
    return found


HOSTILE: list[Any] = [
    *(-1, 0, 1, 2, 3, 7, 16, 255, 256, 257, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, 1 << 64, 10**400, -(10**400)),
    *(
        0.0,
        0.5,
        1e308,
        -1e39,
        None,
        True,
        False,
        [],
        {},
        [1],
        [1, 1],
        {"x": 1},
        [[0, 1]],
        "",
        "x",
        "sums",
        "add",
        "weights",
    ),
    *("x" * 5000, "\n", "\u0000", "\ud800", "é", [0] * 3000, "../../etc"),
]


def mutated_bytes(file: bytes, rng: random.Random) -> bytes:
    """The file with bytes edited, cut out or put in."""
    data = bytearray(file)
    at, size = rng.randrange(len(data)), rng.randrange(1, 400)
    match rng.randrange(3):
        case 0:
            for _ in range(rng.randrange(1, 5)):
                data[rng.randrange(HEAD.size if rng.random() < 0.5 else len(data))] = rng.randrange(256)
        case 1:
            del data[at : at + size]
        case _:
            data[at:at] = rng.randbytes(size)
    return bytes(data)


def mutate_header(header: Any, rng: random.Random) -> None:
    """Remove, double, rename, shift or replace a value anywhere."""
    part, key = rng.choice(places_in(header))
    action = rng.randrange(10)
    if action == 0:
        del part[key]
    elif action == 1 and isinstance(part, list):
        part.insert(key, copy.deepcopy(part[key]))
    elif action == 2 and isinstance(part, dict):
        part[rng.choice(["x", "name", "offset", "\n"])] = part[key]
    elif action <= 5 and isinstance(part[key], int):
        part[key] += rng.choice([-64, -16, -1, 1, 16, 64, 256])
    else:
        part[key] = copy.deepcopy(rng.choice(HOSTILE))


def mutated(file: bytes) -> Iterator[bytes]:
    """Files with anything wrong, half of them with a header that was edited and signed anew."""
    rng = random.Random(20)
    original = header_of(file)
    for number in range(MUTATIONS):
        if number % 2:
            yield mutated_bytes(file, rng)
            continue
        header = copy.deepcopy(original)
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            mutate_header(header, rng)
        yield signed(file, header)


@pytest.mark.slow
def test_mutated_files_are_one_sentence_or_a_plan_that_fits(file: bytes, gpu: Any) -> None:
    """And reading takes no more memory than the file has bytes, whatever sizes it claims."""
    gpu.kernels = dict.fromkeys(["add", "reduce"], lambda gpu, launch: None)
    gpu.free_bytes = 16 << 20
    accepted = 0
    sentences = []
    tracemalloc.start()
    for data in mutated(file):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        engine = None
        try:
            engine = read_engine(data, "some.engine")
        except ModelError as error:
            sentences.append(str(error))
        assert tracemalloc.get_traced_memory()[1] - before < len(data)
        if engine is not None:
            accepted += 1
            sentences += loaded_or_refused(engine, gpu)
    tracemalloc.stop()
    assert MUTATIONS - accepted > 2000
    assert accepted > 20, "harmless changes stay possible, so that the checks behind the hashes are reached"
    assert [sentence for sentence in sentences if "\n" in sentence or len(sentence) > 700] == []
    assert gpu.held() == {}


def loaded_or_refused(engine: Engine, gpu: Any) -> list[str]:
    """A plan that was accepted can be loaded and launched, or the device refuses it with the sentences returned."""
    check_plan(engine.plan, len(engine.weights))
    try:
        session = HopperSession(engine, gpu)
    except DeviceError as error:
        return [str(error)]
    with gpu.active("test"):
        for batch in (1, engine.plan.max_batch):
            session.streams()[0].launches(batch)
    session.close()
    return []
