"""The section on speed: figures from published peak rates, labeled as estimates wherever they appear."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cmx4trt.backends.facts import Measurement
from cmx4trt.base.quantities import rounded
from cmx4trt.devices.gpus import Gpu
from cmx4trt.report import parts
from cmx4trt.report.estimates import Estimate, estimate_layers
from cmx4trt.report.facts import EngineFacts
from cmx4trt.report.html import Html, element, joined
from cmx4trt.report.parts import Column, Figure

_DIGITS = 4
"""Significant digits of measured values; an estimate has three."""


def speed_sections(facts: EngineFacts, gpu: Gpu, note: Callable[[str], None]) -> Iterator[Html]:
    """What the backend measured, or otherwise a plot of the estimate for ``gpu``. Below it the estimates for all GPUs, unless
    the layers were not recorded."""
    if (measured := facts.measurement) is not None:
        table = [_gpu_table(facts)] if facts.layers else []
        yield parts.section("Measured speed", _measured_sentence(measured), *table)
        return
    if not facts.layers:
        return
    from cmx4trt.report.plots import plot_roofline

    estimate = estimate_layers(facts.layers, gpu, facts.batch)
    content: list[Html] = []
    if estimate is None:
        content.append(
            parts.paragraph(f"NVIDIA publishes no peak rate of the {gpu.name} for one of this engine's precisions.")
        )
    else:
        content.append(_sentence(estimate, facts.left_out))
        if facts.macs:
            content.append(parts.drawn(lambda: plot_roofline(estimate), _caption(estimate), note))
    if gpu not in facts.gpus:
        content.append(
            parts.paragraph(f"This engine was not built for the {gpu.name}: the figures describe its graph only.")
        )
    yield parts.section("Estimated speed", *content, _gpu_table(facts))


def _measured_sentence(measured: Measurement) -> Html:
    return parts.paragraph(
        element("strong", f"Measured on {measured.gpu}. "),
        f"A batch of {measured.batch} takes {parts.milliseconds(measured.milliseconds / 1e3, _DIGITS)}: "
        f"{measured.images_per_second:,.0f} images per second, with inputs in GPU memory, measured for two seconds when the "
        "engine was built. LoadGen results, with data from the host, are below, if there are any.",
    )


def _sentence(estimate: Estimate, left_out: str) -> Html:
    most = estimate.most_images_per_second
    bound = f" The compute bound is {rounded(most)} images per second." if most else ""
    return parts.paragraph(
        element("strong", "Estimate. "),
        f"On {estimate.gpu.name} a batch of {estimate.batch} takes about {parts.milliseconds(estimate.seconds)} if every layer "
        f"is as fast as memory and peak rates allow: {rounded(estimate.images_per_second)} images per second, with "
        f"{estimate.memory_share:.0%} of the time in memory-bound layers.{bound} Engines are slower where they do not reach peak "
        "rates, faster where data stay in a cache.",
        f" Excluded from these figures: post-processing, {left_out}." if left_out else "",
        kind="estimate",
    )


def _caption(estimate: Estimate) -> str:
    return (
        f"Roofline of {estimate.gpu.name} ({estimate.gpu.architecture}). Each mark is a layer, at the speed that memory (slope) "
        "or compute (flat roof) allows; its size is its share of the time. Based on the highest "
        f"rates published for each type, without sparsity, and {estimate.gpu.gigabytes_per_second:,.0f} GB/s; source: "
        f"{estimate.gpu.source}."
    )


def _gpu_table(facts: EngineFacts) -> Html:
    rows = []
    for gpu in facts.gpus:
        estimate = estimate_layers(facts.layers, gpu, facts.batch)
        rows.append(
            (
                gpu.name,
                gpu.architecture,
                f"{gpu.gigabytes_per_second:,.0f}",
                *cells_of_estimate(estimate, facts),
                gpu.source,
            )
        )
    columns = (
        *(Column("GPU"), Column("generation"), Column("memory GB/s", True)),
        *(Column("ms per batch", True), Column("images/s", True), Column("rates published in")),
    )
    caption = f"Estimates for all GPUs in the table that this engine may be intended for, batch {facts.batch}"
    content = parts.table(caption, columns, rows, kind="sortable")
    return element("details", element("summary", "Estimates for all GPUs"), content)


def cells_of_estimate(estimate: Estimate | None, facts: EngineFacts) -> tuple[Figure, Figure]:
    """Table cells: ms per batch, images per second; marked if the engine was not built for the estimate's GPU."""
    if estimate is None:
        return Figure(-1, "no rate published"), Figure(-1, parts.NONE)
    milliseconds, speed = rounded(estimate.seconds * 1e3), rounded(estimate.images_per_second)
    mark = "" if estimate.gpu in facts.gpus else element("small", "not built for this GPU")
    return (
        Figure(estimate.seconds, joined(milliseconds, mark)),
        Figure(estimate.images_per_second, joined(speed, mark)),
    )
