"""The section on INT8: where ranges come from, how large they are, how much of the signal is kept, which layers stay in FP16."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cmx4trt.base.quantities import rounded
from cmx4trt.graph.layers import Layer
from cmx4trt.networks.figures import Figures, Int8Figures, figures_of
from cmx4trt.quantize.record import QuantizationRecord
from cmx4trt.report import parts
from cmx4trt.report.facts import EngineFacts
from cmx4trt.report.html import Html, element, joined
from cmx4trt.report.parts import Column, Figure

_SHOWN_LAYERS = 20
"""Rows of the ranking; only the first few matter."""


def int8_sections(facts: EngineFacts, note: Callable[[str], None]) -> Iterator[Html]:
    """One section for an INT8 engine, none for others."""
    record = facts.quantization
    if record is not None:
        content = (
            _summary(record),
            *_noise(figures_of(facts.manifest.verification.to_dict())),
            _ranges(facts, note),
            _ranking(record),
        )
        yield parts.section("INT8", *content)


def _summary(record: QuantizationRecord) -> Html:
    kind = " (random images: they show that it works, not how well)" if record.synthetic else ""
    rows: list[tuple[str, object]] = [
        ("ranges from", f"{record.origin}: {record.samples} images{kind}, method {record.method}"),
        ("their SHA-256", parts.code(record.data_sha256)),
        (
            "layers in int8",
            f"{record.quantized_layers} of {record.layers} convolutions and matrix products",
        ),
        ("kept in float16", parts.code(", ".join(record.kept)) if record.kept else "none"),
    ]
    return parts.definitions(rows)


def _noise(measured: Figures | None) -> Iterator[Html]:
    if not isinstance(measured, Int8Figures) or not measured.sqnr_db:
        return
    found, limit = measured.sqnr_db, measured.limit_db
    top = max([60.0, limit or 0.0, *(value for value in found.values() if value is not None)])
    rows = []
    for name, value in found.items():
        share = 1.0 if value is None else max(value, 0.0) / top
        mark = None if limit is None else limit / top
        rows.append((name, "no error" if value is None else f"{value:.1f} dB", parts.bar(share, limit=mark)))
    columns = (Column("output"), Column("SQNR", True), Column("", wide=True))
    caption = (
        "Signal-to-quantization-noise ratio of each output relative to the float32 network, in decibels: 20 dB means that the "
        f"error has a hundredth of the signal's energy; the dashed line is the limit, {limit} dB"
    )
    yield element("h3", "Effect of quantization")
    yield parts.table(caption, columns, rows, row_kinds=["int8"] * len(rows))


def _ranges(facts: EngineFacts, note: Callable[[str], None]) -> Html:
    layers = [layer for layer in facts.layers if layer.input_scale and layer.macs]
    if not layers:
        return joined()
    from cmx4trt.report.plots import plot_ranges

    ranges = [range_of_layer(layer) for layer in layers]
    columns = (Column("layer"), Column("input range ±", True), Column("one step", True))
    rows = [
        (
            layer.name,
            Figure(size, rounded(size, 4)),
            Figure(layer.input_scale or 0.0, rounded(layer.input_scale or 0.0)),
        )
        for layer, size in zip(layers, ranges, strict=True)
    ]
    caption = (
        "The largest magnitude that the 8-bit input of each layer can represent; larger values are clipped. Consecutive layers "
        "that differ by more than a few powers of ten are worth a look."
    )
    listed = parts.table("Ranges of all int8 layers", columns, rows, kind="sortable")
    return joined(
        element("h3", "Ranges"),
        parts.drawn(lambda: plot_ranges(ranges), caption, note),
        element("details", element("summary", "Table of ranges"), listed),
    )


def range_of_layer(layer: Layer) -> float:
    """The largest magnitude of a layer's int8 or uint8 input."""
    return layer.input_steps * (layer.input_scale or 0.0)


def _ranking(record: QuantizationRecord) -> Html:
    ranking, kept = record.ranking, set(record.kept)
    if not ranking:
        return joined()
    top = max(gain.share for gain in ranking) or 1.0
    rows = [
        (
            gain.layer,
            Figure(gain.share, f"{gain.share:.1%}"),
            parts.bar(gain.share / top),
            Figure(gain.gain_db, f"{gain.gain_db:.2f}"),
            "float16" if gain.layer in kept else "int8",
        )
        for gain in ranking[:_SHOWN_LAYERS]
    ]
    columns = (
        *(Column("layer"), Column("share of the error", True), Column("")),
        *(Column("gain in float16, dB", True), Column("computed in")),
    )
    caption = f"The {len(rows)} layers (of {len(ranking)}) whose quantization changes the outputs most"
    return joined(
        element("h3", "The most sensitive layers"), parts.table(caption, columns, rows, row_kinds=["int8"] * len(rows))
    )
