"""Several engines side by side: batch and precision, size, time, estimate and measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cmx4trt.devices.gpus import Gpu
from cmx4trt.report import parts
from cmx4trt.report.estimates import Estimate, estimate_layers
from cmx4trt.report.facts import EngineFacts, order_of_precision
from cmx4trt.report.html import Html, element, joined
from cmx4trt.report.measured import figure_of_run, what_ran
from cmx4trt.report.parts import Column, Figure
from cmx4trt.report.speed import cells_of_estimate
from cmx4trt.report.verdicts import YES, verdicts_of_engine
from cmx4trt.store.results import BenchResult

_LEFT_OUT = "; excluded: post-processing"


def page_of_engines(engines: Sequence[EngineFacts], gpu: Gpu, note: Callable[[str], None]) -> str:
    """The page as HTML; all speeds are estimated for ``gpu``. ``note`` receives a sentence about anything missing."""
    titles = list(dict.fromkeys(facts.title for facts in engines))
    sections = [
        _network(number, [facts for facts in engines if facts.title == title], gpu, note)
        for number, title in enumerate(titles, 1)
    ]
    return parts.page(
        f"{len(engines)} engines compared",
        element("h1", f"{len(engines)} engines of {' and '.join(titles)}"),
        parts.paragraph(
            "How they differ. Speeds are estimates from published peak rates, except those in the column “measured”.",
            kind="soft",
        ),
        *sections,
        _sources(gpu),
    )


def _network(number: int, engines: Sequence[EngineFacts], gpu: Gpu, note: Callable[[str], None]) -> Html:
    ordered = sorted(engines, key=lambda f: (order_of_precision(f.precision), f.batch, f.builder, f.engine))
    estimates = {facts.engine: estimate_layers(facts.layers, gpu, facts.batch) for facts in ordered}
    return parts.section(
        ordered[0].title,
        _engines(ordered, estimates, gpu),
        _matrix("Engine file, MB", ordered, lambda f: f"{f.bytes / 1e6:,.1f}"),
        _matrix(
            f"Images per second on {gpu.name} (estimates{_left_out(ordered)})",
            ordered,
            lambda f: cells_of_estimate(estimates[f.engine], f)[1].text,
        ),
        _curve(f"throughput-{number}", ordered, estimates, gpu, note),
        element("details", element("summary", "Files"), parts.definitions(_files(ordered))),
        long=True,
    )


def _engines(engines: Sequence[EngineFacts], estimates: dict[str, Estimate | None], gpu: Gpu) -> Html:
    top = max(facts.bytes for facts in engines) or 1
    rows = []
    for facts in engines:
        build = facts.stages.get("build")
        rows.append(
            (
                joined(f"{facts.precision.upper()}, batch {facts.batch}", element("small", _label(facts))),
                Figure(facts.bytes, f"{facts.bytes / 1e6:,.1f}"),
                parts.bar(facts.bytes / top),
                Figure(build or -1, parts.NONE if build is None else f"{build:.2f}"),
                Figure(facts.macs, f"{2 * facts.macs / 1e9:,.2f}" if facts.layers else "not recorded"),
                *cells_of_estimate(estimates[facts.engine], facts),
                _measured(facts),
                _state(facts),
            )
        )
    columns = (
        *(Column("engine"), Column("MB", True), Column(""), Column("build s", True)),
        *(
            Column("GFLOP per image", True),
            Column("ms per batch (estimate)", True),
            Column("images/s (estimate)", True),
        ),
        *(Column("measured"), Column("graph verified")),
    )
    caption = f"Milliseconds and images per second are estimates for {gpu.name}, never measurements{_left_out(engines)}"
    return parts.table(caption, columns, rows, kind="engines sortable", row_kinds=[f.precision for f in engines])


def _matrix(caption: str, engines: Sequence[EngineFacts], content: Callable[[EngineFacts], object]) -> Html:
    """Batch size and precision; a cell names all engines that share it."""
    precisions = list(dict.fromkeys(facts.precision for facts in engines))
    batches = sorted({facts.batch for facts in engines})
    rows = []
    for batch in batches:
        cells = []
        for precision in precisions:
            found = [f for f in engines if (f.batch, f.precision) == (batch, precision)]
            names = [element("small", f"({_label(f)})") if len(found) > 1 else "" for f in found]
            shown = [element("div", content(f), name) for f, name in zip(found, names, strict=True)]
            cells.append(joined(*shown) if shown else parts.NONE)
        rows.append((f"batch {batch}", *cells))
    columns = (Column(""), *(Column(precision.upper(), True) for precision in precisions))
    return parts.table(caption, columns, rows)


def _curve(
    name: str,
    engines: Sequence[EngineFacts],
    estimates: dict[str, Estimate | None],
    gpu: Gpu,
    note: Callable[[str], None],
) -> Html:
    """Images per second by batch size, of the engines that ``gpu`` can run, if a precision has several batch sizes."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for facts in engines:
        if (estimate := estimates[facts.engine]) is not None and gpu in facts.gpus:
            lines.setdefault(facts.precision, []).append((facts.batch, estimate.images_per_second))
    if not any(len(dict(points)) > 1 for points in lines.values()):
        return joined()
    from cmx4trt.report.plots import plot_throughput

    caption = f"Estimate for {gpu.name}: what a larger batch can gain, because weights are read once for all images."
    return parts.drawn(lambda: plot_throughput(name, lines, gpu.name), caption, note)


def _files(engines: Sequence[EngineFacts]) -> list[tuple[str, object]]:
    return [(f"{facts.precision.upper()}, batch {facts.batch}", parts.code(facts.engine)) for facts in engines]


def _label(facts: EngineFacts) -> str:
    return f"{facts.builder}, {facts.target}, {facts.scenario}"


def _left_out(engines: Sequence[EngineFacts]) -> str:
    """The end of a caption of estimates: what they exclude, if anything."""
    return _LEFT_OUT if any(facts.left_out for facts in engines) else ""


def _measured(facts: EngineFacts) -> Html | str:
    """What LoadGen measured, preceded by what it ran; and what the backend measured."""
    runs = [run.result for run in facts.runs if run.of_this_engine and run.result.metric]
    shown = [_measurement(run) for run in runs]
    if (found := facts.measurement) is not None:
        shown.append(
            joined(f"{found.images_per_second:,.0f} images/s", element("small", f"on {found.gpu}, without LoadGen"))
        )
    return joined(*(element("div", one) for one in shown)) if shown else parts.NONE


def _measurement(result: BenchResult) -> Html:
    doubt = " (INVALID)" if result.valid is False else ""
    return joined(f"{result.scenario} {figure_of_run(result)}{doubt}", element("small", what_ran(result)))


def _state(facts: EngineFacts) -> str:
    if facts.doubt:
        return "✗ file changed"
    return "✓ yes" if facts.manifest.verified and verdicts_of_engine(facts)[0].status == YES else "\N{EN DASH} no"


def _sources(gpu: Gpu) -> Html:
    rates = ", ".join(f"{name.upper()} {rate:g}" for name, rate in gpu.tera_per_second.items())
    return parts.section(
        "How speeds are estimated",
        parts.paragraph(
            "A layer takes as long as its operations at the peak rate, or as its bytes at the memory bandwidth if that is "
            "longer. Engines are slower where they do not reach peak rates, faster where data stay in a cache. "
            f"{gpu.name}: 10¹² operations per second {rates} (without sparsity), {gpu.gigabytes_per_second:,.0f} GB/s. "
            f"Source: {gpu.source}."
        ),
    )
