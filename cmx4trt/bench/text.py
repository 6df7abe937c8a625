"""The result of a run as rows for people, which are also stored as text beside LoadGen's logs."""

from __future__ import annotations

from cmx4trt.base.quantities import rounded
from cmx4trt.bench.memory import megabytes
from cmx4trt.requests.evaluation_options import ACCURACY
from cmx4trt.store.results import COMPLETE, BenchResult


def rows_of_result(result: BenchResult) -> list[tuple[str, str]]:
    """The result for people; the first row says what ran."""
    rows = [("executed", result.executed)]
    rows += [(name, str(value)) for name, value in result.subject.to_dict().items()]
    rows += [("scenario", result.scenario), ("mode", result.mode), ("data", result.data)]
    if result.status != COMPLETE:
        rows.append(("status", f"{result.status}: {result.reason} (the logs are partial)"))
    elif result.mode != ACCURACY:
        rows.append(("result", "VALID" if result.valid else f"INVALID: {result.reason}"))
    if (metric := result.metric) is not None:
        rows.append((metric.name, f"{rounded(metric.value, 6)} {metric.unit}"))
    if result.latency_ns:
        shown = (f"p{float(name):g} {rounded(value / 1e6, 4)}" for name, value in result.latency_ns.items())
        rows.append(("latency (ms)", ", ".join(shown)))
    if len(result.gpus) > 1:
        shares = (f"GPU {gpu.index} {gpu.samples} ({100 * gpu.share:.1f} %)" for gpu in result.gpus)
        rows.append(("samples by GPU", ", ".join(shares)))
    rows += [("note", note) for note in result.notes]
    if result.accuracy is not None:
        rows += [(name, str(value)) for name, value in result.accuracy.to_dict().items()]
    if result.departures:
        shown = (f"{name} {one.used} (not {one.mlperf})" for name, one in result.departures.items())
        rows.append(("deviations from MLPerf", "; ".join(shown)))
    if (held := result.memory) is not None:
        way = ", page-locked, fetched by the GPU" if held.fetched_by_the_gpu else ""
        rows.append(("samples in memory", f"{held.samples} ({megabytes(held.bytes)}{way})"))
    rows.append(("logs", result.folder))
    return rows


def text_of_result(result: BenchResult) -> str:
    """The same as lines."""
    return "".join(f"{name}: {value}\n" for name, value in rows_of_result(result))
