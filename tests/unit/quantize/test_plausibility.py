"""Damaged caches and ranges are refused with tensor and line; sound ones of every method pass."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.errors import DataError
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Model
from cmx4trt.quantize import quantize_network
from cmx4trt.quantize.observe import Method, Wanted, observe
from cmx4trt.quantize.placement import place
from cmx4trt.quantize.random_samples import RandomSamples
from cmx4trt.quantize.ranges import Ranges, digest_of_model
from cmx4trt.quantize.tensorrt_cache import encode_cache, parse_cache
from cmx4trt.requests.build import BuildRequest

HEADER = b"TRT-8001-EntropyCalibration2\n"


def scales_of(network: CanonicalGraph, method: Method = Method.MINMAX) -> dict[str, float]:
    """Of random images, as any calibrator finds them."""
    wanted = Wanted(place(network.model.graph).activations, {})
    found = observe(network.model, wanted, RandomSamples((3, 8, 8), 4), method, Silent()).ranges
    return {name: float(np.float32(largest / 127)) for name, largest in found.items()}


def quantized_with(network: CanonicalGraph, folder: Path, content: bytes) -> None:
    cache = folder / "calibrator.cache"
    cache.write_bytes(content)
    copy = CanonicalGraph(network.model.copy(), network.spec, network.details, {})
    quantize_network(copy, BuildRequest.from_values({"precision": "int8", "calibration_cache": cache}), Silent())


@pytest.mark.parametrize("method", list(Method))
def test_sound_ranges_of_every_method_pass(residual_network: CanonicalGraph, tmp_path: Path, method: Method) -> None:
    quantized_with(residual_network, tmp_path, encode_cache(scales_of(residual_network, method)))


def flipped(scale: float, bit: int) -> float:
    """float32 with one bit of its exponent changed."""
    (bits,) = struct.unpack("<I", struct.pack("<f", scale))
    (found,) = struct.unpack("<f", struct.pack("<I", bits ^ 1 << 23 + bit))
    return float(found)


@pytest.mark.parametrize(("tensor", "bit"), [(t, b) for t in ("x", "r1", "r2", "r5") for b in range(2, 8)][1:])
def test_a_flipped_exponent_bit_is_found(
    residual_network: CanonicalGraph, tmp_path: Path, tensor: str, bit: int
) -> None:
    """Bits 0 and 1 are factors of 2 and 4, which entropy's clipping has, too; the input's bit 2 makes the synthetic
    images 16 times larger, as another normalization does."""
    scales = scales_of(residual_network)
    scales[tensor] = flipped(scales[tensor], bit)
    line = 2 + list(scales).index(tensor)
    with pytest.raises(DataError, match=f"line {line} gives .*'{tensor}' the scale"):
        quantized_with(residual_network, tmp_path, encode_cache(scales))


@pytest.fixture
def chain(text_model: Callable[..., Model]) -> CanonicalGraph:
    """Nine convolutions, one after the other."""
    lines = [
        f"c{i} = Conv <pads = [1, 1, 1, 1]> ({f'r{i - 1}' if i else 'x'}, w{i}) r{i} = Relu (c{i})" for i in range(9)
    ]
    lines.append("g = GlobalAveragePool (r8) f = Flatten (g) y = Gemm <transB = 1> (f, w9)")
    shapes = {f"w{i}": (32, 32 if i else 3, 3, 3) for i in range(9)}
    model = text_model("\n".join(lines), shapes={**shapes, "w9": (5, 32)})
    return CanonicalGraph(model, ModelSpec("resnet50", "a small network", (3, 8, 8), 1000))


@pytest.mark.parametrize("method", [Method.MINMAX, Method.ENTROPY])
@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0, 4.0])
def test_one_scale_off_by_a_power_of_two_is_found_where_all_others_agree(
    chain: CanonicalGraph, tmp_path: Path, method: Method, factor: float
) -> None:
    scales = scales_of(chain, method)
    quantized_with(chain, tmp_path, encode_cache(scales))
    scales["r4"] *= factor
    line = 2 + list(scales).index("r4")
    with pytest.raises(DataError, match=f"line {line} gives .*'r4' the scale .* while all others are within"):
        quantized_with(chain, tmp_path, encode_cache(scales))


def test_where_the_scales_differ_a_factor_of_two_is_the_method_s_choice(chain: CanonicalGraph, tmp_path: Path) -> None:
    scales = scales_of(chain)
    scales["r2"] *= 0.6
    scales["r6"] *= 2
    quantized_with(chain, tmp_path, encode_cache(scales))


def test_all_scales_alike_are_refused(residual_network: CanonicalGraph, tmp_path: Path) -> None:
    scales = dict.fromkeys(scales_of(residual_network), 1.0)
    with pytest.raises(DataError, match="line 2 gives tensor 'x' the scale 1, as it does all 7 tensors"):
        quantized_with(residual_network, tmp_path, encode_cache(scales))


def test_a_byte_order_mark_is_no_damage(residual_network: CanonicalGraph, tmp_path: Path) -> None:
    quantized_with(residual_network, tmp_path, b"\xef\xbb\xbf" + encode_cache(scales_of(residual_network)))


LINES: dict[str, tuple[bytes, str]] = {
    "conflict": (
        b"a: 3c010204\nb: 3c010204\na: 3d010204\n",
        r"line 4 gives tensor 'a' the scale .*, but line 2 gave it",
    ),
    "zero": (b"a: 3c010204\nb: 00000000\n", "line 3 gives tensor 'b' the scale 0, expected a positive number"),
    "negative zero": (b"a: 80000000\n", "line 2 gives tensor 'a' the scale -0, expected a positive number"),
    "NaN": (b"a: 3c010204\nb: 7fc00000\n", "line 3 gives tensor 'b' the scale nan"),
    "infinite": (b"a: 7f800000\n", "line 2 gives tensor 'a' the scale inf"),
}


@pytest.mark.parametrize("case", LINES)
def test_lines_that_no_calibration_writes(case: str) -> None:
    content, sentence = LINES[case]
    with pytest.raises(DataError, match=sentence):
        parse_cache(HEADER + content, "it")


def test_a_line_twice_is_one() -> None:
    assert parse_cache(HEADER + b"a: 3c010204\na: 3c010204\n", "it").lines == {"a": 2}


def ranges_json(network: CanonicalGraph) -> str:
    return Ranges(scales_of(network), digest_of_model(network.model), "", "minmax", 4).to_json()


def one_digit(text: str) -> str:
    place_of_digit = text.index('"r2": 0.') + len('"r2": 0.')
    digit = text[place_of_digit]
    return text[:place_of_digit] + str((int(digit) + 5) % 10) + text[place_of_digit + 1 :]


def without_checksum(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if '"sha256"' not in line).replace("},\n}", "}\n}")


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (one_digit, "its sha256 is not that of its content"),
        (lambda text: without_checksum(text).replace('"r2": 0.', '"r2": 1e9'), "gives tensor 'r2' the scale"),
    ],
)
def test_our_json_shows_a_changed_digit(
    residual_network: CanonicalGraph, tmp_path: Path, edit: Callable[[str], str], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        quantized_with(residual_network, tmp_path, edit(ranges_json(residual_network)).encode())


def test_our_json_without_a_checksum_serves(residual_network: CanonicalGraph, tmp_path: Path) -> None:
    quantized_with(residual_network, tmp_path, without_checksum(ranges_json(residual_network)).encode())
