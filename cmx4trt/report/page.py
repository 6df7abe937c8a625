"""The report of one engine: what it is, how it was verified, what it contains, and how fast it may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cmx4trt.base.quantities import rounded
from cmx4trt.base.records import rows_of_record
from cmx4trt.devices.gpus import Gpu
from cmx4trt.graph.layers import Layer
from cmx4trt.report import parts
from cmx4trt.report.estimates import LayerEstimate, bytes_of_layer, estimate_layers
from cmx4trt.report.facts import EngineFacts, order_of_precision
from cmx4trt.report.html import Html, element, joined
from cmx4trt.report.int8 import int8_sections
from cmx4trt.report.measured import measured_section
from cmx4trt.report.own import backend_sections
from cmx4trt.report.parts import Column, Figure
from cmx4trt.report.speed import speed_sections
from cmx4trt.report.verdicts import NO, NOTE, OPEN, YES, verdicts_of_engine
from cmx4trt.store.manifest import TensorRecord

_MARKS = {YES: "✓ checked", NO: "✗ failed", OPEN: "\N{EN DASH} not checked", NOTE: "! note"}
_NOT_RECORDED = (
    "The layers of this engine were not recorded (it was built by an earlier release, or by NVIDIA's own code), so they "
    "cannot be shown here."
)
_STAGES = {
    "prepare": "read the model, prepare its graph (and calibrate, for INT8)",
    "build": "build the engine",
    "verify": "compare the graph with the original model",
    "execute": "run the engine on the GPU and compare",
}


def page_of_engine(facts: EngineFacts, gpu: Gpu, note: Callable[[str], None]) -> str:
    """The page as HTML; the speed is estimated for ``gpu``. ``note`` receives a sentence about anything missing."""
    return parts.page(
        f"{facts.name}: engine report",
        _head(facts),
        _verdicts(facts),
        _origin(facts),
        _stages(facts),
        _size(facts),
        _precisions(facts),
        *speed_sections(facts, gpu, note),
        *int8_sections(facts, note),
        measured_section(facts, note),
        *backend_sections(facts),
        _layers(facts, gpu),
        _builder(facts),
    )


def _head(facts: EngineFacts) -> Html:
    figures = [(parts.megabytes(facts.bytes), "engine file")]
    if facts.layers:
        figures.append((f"{rounded(2 * facts.macs / 1e9)} GFLOP", "per image"))
        figures.append((str(len(facts.layers)), "layers (fused)"))
    figures.append((parts.seconds(_wall_seconds(facts)), "build time"))
    figures.append(("yes" if facts.manifest.verified else "no", "graph compared with the original"))
    figures.append(("yes" if facts.ran_on_device else "no", "engine run on a device"))
    batches = f"batches of 1 to {facts.batch} images" if facts.batch > 1 else "one image at a time"
    return joined(
        element("h1", f"{facts.title}, {facts.precision.upper()}, batch {facts.batch}"),
        parts.paragraph(
            f"An NVIDIA inference engine for {batches}, built by {_builder_name(facts)} for {_target(facts)}, "
            f"scenario {facts.scenario}.",
            kind="soft",
        ),
        parts.cards(figures),
    )


def _builder_name(facts: EngineFacts) -> str:
    return f"{facts.backend.title if facts.backend else facts.builder} {facts.version}"


def _target(facts: EngineFacts) -> str:
    known = facts.backend.targets.meanings if facts.backend else {}
    return known.get(facts.target, f"target {facts.target}")


def _verdicts(facts: EngineFacts) -> Html:
    rows = []
    for verdict in verdicts_of_engine(facts):
        mark = element("span", _MARKS[verdict.status], class_=f"mark {verdict.status}")
        figures = parts.paragraph(verdict.figures) if verdict.figures else ""
        rows.append(element("li", mark, parts.paragraph(verdict.sentence), figures))
    return parts.section("Verification", element("ul", *rows, class_="verdicts"))


def _origin(facts: EngineFacts) -> Html:
    manifest, source = facts.manifest, facts.manifest.source
    rows: list[tuple[str, object]] = []
    if source.is_random:
        rows.append(("model", f"{facts.title} with random weights from seed {source.seed}"))
    else:
        rows.append(("model file", parts.code(source.path or "not recorded")))
        rows.append(("model SHA-256", parts.code(source.sha256 or "not recorded")))
        if source.bytes is not None:
            rows.append(("model size", parts.megabytes(source.bytes)))
    network = manifest.network
    rows += [("inputs", parts.code(_tensors(network.inputs))), ("outputs", parts.code(_tensors(network.outputs)))]
    rows += [
        ("engine", parts.code(facts.engine)),
        ("engine SHA-256", parts.code(manifest.engine.sha256)),
        ("manifest", parts.code(facts.manifest_path)),
        ("built", f"{manifest.created}, by " + ", ".join(f"{name} {value}" for name, value in manifest.tool.items())),
    ]
    return parts.section("Provenance", parts.definitions(rows), _options(facts))


def _tensors(infos: Sequence[TensorRecord] | None) -> str:
    names = {"float": "float32"}  # ONNX's name of the type
    shown = (
        f"{info.name} [{', '.join(map(str, info.shape))}] {names.get(info.dtype, info.dtype)}" for info in infos or ()
    )
    return "; ".join(shown) or "not recorded"


def _options(facts: EngineFacts) -> Html:
    shown = [(name, parts.code(text)) for name, text in rows_of_record(facts.manifest.request.to_dict())]
    return element("details", element("summary", "All options"), parts.definitions(shown))


def _wall_seconds(facts: EngineFacts) -> float:
    """From start to publication: build and verify run in parallel."""
    side_by_side = max(facts.stages.get("build", 0.0), facts.stages.get("verify", 0.0))
    return side_by_side + sum(value for name, value in facts.stages.items() if name not in ("build", "verify"))


def _stages(facts: EngineFacts) -> Html:
    total = _wall_seconds(facts) or 1.0
    first = facts.stages.get("prepare", 0.0)
    starts = {"build": first, "verify": first, "execute": total - facts.stages.get("execute", 0.0)}
    rows = [
        (
            joined(name, element("small", _STAGES.get(name, ""))),
            parts.seconds(value),
            parts.bar(value / total, starts.get(name, 0.0) / total),
        )
        for name, value in sorted(facts.stages.items(), key=lambda item: starts.get(item[0], 0.0))
    ]
    columns = (Column("stage"), Column("time", True), Column("when", wide=True))
    caption = "Wall time of each stage, from left to right; build and verification run in parallel"
    return parts.section("Build time", parts.table(caption, columns, rows))


def _size(facts: EngineFacts) -> Html:
    sizes = {"engine file": float(facts.bytes)}
    if facts.constant_bytes is not None:
        sizes["weights and other constants in the graph"] = float(facts.constant_bytes)
    if facts.manifest.source.bytes is not None:
        sizes["model file"] = float(facts.manifest.source.bytes)
    top = max(sizes.values())
    rows = [(name, parts.megabytes(size), parts.bar(size / top)) for name, size in sizes.items()]
    columns = (Column("what"), Column("size", True), Column("", wide=True))
    return parts.section("Size", parts.table("1 MB = 10⁶ bytes", columns, rows))


def _precisions(facts: EngineFacts) -> Html:
    if not facts.layers:
        return parts.section("Precision", parts.paragraph(_NOT_RECORDED))
    names = sorted({layer.precision for layer in facts.layers}, key=order_of_precision)
    rows = []
    for name in names:
        chosen = [layer for layer in facts.layers if layer.precision == name]
        work = sum(layer.macs for layer in chosen) / (facts.macs or 1)
        total = sum(bytes_of_layer(layer, facts.batch) for layer in facts.layers) or 1
        moved = sum(bytes_of_layer(layer, facts.batch) for layer in chosen) / total
        count = len(chosen) / len(facts.layers)
        rows.append(
            (
                name.upper(),
                joined(f"{len(chosen)} of {len(facts.layers)}", parts.bar(count)),
                *(joined(f"{share:.1%}", parts.bar(share)) for share in (work, moved)),
            )
        )
    columns = [Column(title) for title in ("precision", "layers", "operations", "bytes moved")]
    caption = (
        "Compute precision: share of the layers, of the operations, and of the bytes moved for a "
        f"batch of {facts.batch}"
    )
    return parts.section("Precision", parts.table(caption, columns, rows, row_kinds=names))


def _layers(facts: EngineFacts, gpu: Gpu) -> Html:
    if not facts.layers:
        return parts.section("Layers", parts.paragraph(_NOT_RECORDED))
    estimate = estimate_layers(facts.layers, gpu, facts.batch)
    estimates = {id(b.layer): b for b in estimate.layers} if estimate else {}
    rows = [
        _row_of_layer(number, layer, facts.batch, estimates.get(id(layer)))
        for number, layer in enumerate(facts.layers, 1)
    ]
    columns = (
        *(Column("layer"), Column("no.", True), Column("operators"), Column("type"), Column("output")),
        *(Column("MFLOP", True), Column("weights kB", True), Column("data kB", True), Column("FLOP/byte", True)),
        *(Column("µs (estimate)", True), Column("limited by")),
    )
    caption = (
        f"FLOP, weights and data are per image; FLOP/byte and the estimate are for a batch of {facts.batch}, which reads the "
        f"weights once, on {gpu.name}. A layer is an operator "
        "with the element-wise ones after it; FLOP are twice the multiply-accumulates of convolutions and matrix products; "
        "data are read once and written once. The builder may fuse differently."
    )
    listed = parts.table(caption, columns, rows, kind="layers sortable")
    return parts.section("Layers", listed, _uncounted(facts), long=True)


def _row_of_layer(number: int, layer: Layer, batch: int, estimate: LayerEstimate | None) -> tuple[object, ...]:
    operations = 2 * layer.macs
    intensity = operations * batch / (bytes_of_layer(layer, batch) or 1)
    return (
        layer.name,
        Figure(number, str(number)),
        layer.op,
        layer.precision.upper(),
        "\N{MULTIPLICATION SIGN}".join(map(str, layer.shape)),
        Figure(operations, f"{operations / 1e6:,.1f}"),
        Figure(layer.weight_bytes, f"{layer.weight_bytes / 1e3:,.1f}"),
        Figure(layer.activation_bytes, f"{layer.activation_bytes / 1e3:,.1f}"),
        Figure(intensity, f"{intensity:,.1f}"),
        Figure(estimate.seconds, f"{estimate.seconds * 1e6:,.2f}") if estimate else Figure(-1, parts.NONE),
        estimate.limit if estimate else parts.NONE,
    )


def _uncounted(facts: EngineFacts) -> Html:
    if not facts.left_out:
        return joined()
    return parts.paragraph(f"Excluded: post-processing, {facts.left_out}.", kind="soft")


def _builder(facts: EngineFacts) -> Html:
    record = facts.manifest.builder.to_dict()
    warnings, layers = record.pop("warnings", []), record.pop("layers", [])
    record.pop("launches", None)  # the backend shows them
    rows = [(name.removesuffix("_bytes").replace("_", " "), parts.code(text)) for name, text in rows_of_record(record)]
    if layers:
        rows.append(("layers of the engine", parts.code(f"{len(layers)} (listed in the manifest)")))
    content = [parts.definitions(rows)]
    counted = {text: warnings.count(text) for text in warnings}
    if counted:
        lines = [
            element("li", parts.code(text.strip()), f" ({count} times)" if count > 1 else "")
            for text, count in counted.items()
        ]
        content.append(
            element("details", element("summary", f"{len(warnings)} builder messages"), element("ul", *lines))
        )
    return parts.section("Builder output", *content)
