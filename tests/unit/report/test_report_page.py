"""The pages: what stands in them, what is escaped, what is missing, what they refuse to load."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.devices.gpus import gpu_of_name
from cmx4trt.errors import ModelError
from cmx4trt.report.comparison import page_of_engines
from cmx4trt.report.facts import facts_of_engine
from cmx4trt.report.gpu_choice import gpu_of_engines
from cmx4trt.report.page import page_of_engine
from cmx4trt.report.verdicts import NO, OPEN, YES, verdicts_of_engine

LARGEST = 300_000
"""Bytes a page of ResNet-50 may have: it is mailed and kept beside every engine."""
HOSTILE = """</code><script>alert("x")</script><img src=x onerror='alert(1)'>&amp;"""


def unexpected(text: str) -> None:
    raise AssertionError(f"noted: {text}")


@pytest.fixture
def show(tmp_path: Path, page_of: Callable[[Path], Any]) -> Callable[..., Any]:
    """The page of engines, taken apart."""

    def show(*engines: Any, gpu: str | None = None, note: Callable[[str], None] = unexpected) -> Any:
        facts = [facts_of_engine(str(published.engine)) for published in engines]
        chosen = gpu_of_name(gpu) if gpu else gpu_of_engines(facts)
        page = page_of_engine(facts[0], chosen, note) if len(facts) == 1 else page_of_engines(facts, chosen, note)
        path = tmp_path / "shown.html"
        path.write_text(page, encoding="utf-8")
        return page_of(path)

    return show


def test_a_page_tells_what_was_built_and_what_was_verified(published: Any, show: Callable[..., Any]) -> None:
    page = show(published)
    assert page.texts["h1"] == ["ResNet-50 v1.5, FP16, batch 2"]
    manifest = published.manifest
    for text in (
        "batches of 1 to 2 images, built by TensorRT-RTX 1.2.3",
        "8.18 GFLOP",
        "with random weights from seed 1",
        manifest["engine"]["sha256"],
        str(published.engine),
        "The graph given to the builder computes what the original computes.",
        f"{manifest['verification']['relative_l2']:.3g}, limit {manifest['verification']['relative_l2_limit']:.3g}",
        "The engine itself has not run: the build used no device.",
        "The engine file is unchanged since it was published.",
        "Nothing has been measured yet.",
        "res2a_branch2a",
        "2 builder messages",
    ):
        assert text in page.text, text
    assert page.texts["h2"] == [
        "Verification",
        "Provenance",
        "Build time",
        "Size",
        "Precision",
        "Estimated speed",
        "Measured with LoadGen",
        "Layers",
        "Builder output",
    ]


def test_a_page_is_small_and_loads_nothing(published: Any, show: Callable[..., Any], tmp_path: Path) -> None:
    published.make_int8()
    page = show(published)
    text = (tmp_path / "shown.html").read_text()
    assert len(text) < LARGEST
    assert page.all("link") == page.all("img") == page.all("iframe") == []
    loaded = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")]
    assert loaded == []
    references = re.findall(r'(?:xlink:href|url)(?:="|\()([^")]+)', text)
    assert references
    assert all(reference.startswith("#") for reference in references)
    assert "@import" not in text
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert len(page.all("script")) == 1


def test_a_page_is_accessible(published: Any, show: Callable[..., Any], tmp_path: Path) -> None:
    published.make_int8()
    page = show(published)
    assert page.all("html") == [{"lang": "en"}]
    tables = page.all("table")
    assert len(tables) == len(page.texts["caption"]) > 5
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))
    pictures = [a for tag, a in page.elements if a.get("role") == "img"]
    assert len(pictures) == 2
    assert all(len(a["aria-label"] or "") > 20 for a in pictures)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids)), "two plots share an id"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_plots_take_the_colours_of_the_page(published: Any, show: Callable[..., Any], tmp_path: Path) -> None:
    published.make_int8()
    show(published)
    text = (tmp_path / "shown.html").read_text()
    drawings = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(drawings) == 2
    for drawing in drawings:
        assert "var(--int8)" in drawing
        assert set(re.findall(r"#[0-9a-f]{6}", drawing)) == set(), "a colour that does not follow dark mode"
        assert "font-family: inherit" in drawing


def test_text_from_the_manifest_stays_text(published: Any, show: Callable[..., Any]) -> None:
    graph = published.manifest["graph"]
    graph["layers"][3]["name"] = HOSTILE
    graph["uncounted_operators"] = {HOSTILE: 3}
    published.edit(
        source={"kind": "file", "path": f"/home/{HOSTILE}/m.onnx", "sha256": HOSTILE, "bytes": 5},
        network={"title": HOSTILE},
        builder={"warnings": [HOSTILE], "version": HOSTILE, HOSTILE: 1},
        request={"target": HOSTILE, "model": HOSTILE},
        verification={"method": HOSTILE},
        execution={"engine_executed_on_a_device": "yes", "device": HOSTILE},
        stages={HOSTILE: 1.0},
        tool={HOSTILE: HOSTILE},
        graph=graph,
    )
    published.add_run(
        executed=HOSTILE, reason=HOSTILE, valid=False, departures={HOSTILE: {"used": HOSTILE, "mlperf": 1}}
    )
    page = show(published)
    assert page.text.count(HOSTILE) >= 12
    assert page.texts["title"] == [f"{HOSTILE} · FP16 · batch 2: engine report"]
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    other = published.copy("other", request={"precision": "bf16"})
    assert HOSTILE in show(published, other).text


def test_layers_can_be_sorted_by_what_cells_hold(published: Any, show: Callable[..., Any]) -> None:
    page = show(published)
    assert [a["class"] for a in page.all("table") if "layers" in (a.get("class") or "")] == ["layers sortable"]
    values = [float(a["data-value"]) for a in page.all("td") if "data-value" in a]
    assert 2 * 118013952 in values  # the first convolution's FLOP


def test_manifests_without_layers_say_so(published: Any, show: Callable[..., Any]) -> None:
    published.drop("graph", "layers", "constant_bytes", "uncounted_operators")
    page = show(published)
    assert page.text.count("The layers of this engine were not recorded") == 2
    assert "GFLOP" not in page.text
    assert "Estimated speed" not in page.text
    other = published.copy("other")
    assert "not recorded" in show(published, other).text


def test_an_engine_of_nvidias_code_has_a_page(published: Any, show: Callable[..., Any]) -> None:
    published.edit(request={"builder": "common-code"}, verification={"verdict": "skipped", "reason": "a reason"})
    published.edit(graph=[])
    published.manifest_path.write_text(published.manifest_path.read_text().replace('"graph": []', '"graph": {}'))
    published.drop("network", "inputs", "outputs")
    page = show(published)
    assert "built by NVIDIA's MLPerf code 1.2.3" in page.text
    assert "There was no comparison with the original model: a reason." in page.text


def test_int8_ranges_noise_and_ranking(published: Any, show: Callable[..., Any]) -> None:
    published.make_int8()
    page = show(published)
    for text in (
        "INT8",
        "Effect of quantization",
        "41.5 dB",
        "no error",
        "Ranges",
        "53 of 54 convolutions",
        "fc1000",
        "The most sensitive layers",
        "The 20 layers (of 20)",
        "Lowest signal-to-noise ratio of an output 41.5 dB, limit 10 dB; 93.8% of classes agree",
        "synthetic images",
        "The same network in float32 computes what the original computes.",
        "3.969",  # 127 steps of 1/32
    ):
        assert text in page.text, text


def test_loadgen_runs(published: Any, show: Callable[..., Any]) -> None:
    published.add_run("Offline")
    published.add_run("Server", valid=False, reason="too slow", subject={"engine sha256": "0" * 64})
    published.add_run("Short", valid=False, reason="too short")
    published.add_run("SingleStream", metric={"name": "early_stopping_p90_latency", "value": 2_000_000, "unit": "ns"})
    published.add_run("MultiStream").write_text('{"schema": "something else"}')
    page = show(published)
    for text in (
        "123.5 samples/s",
        "p50 1, p99.9 2.5 ms",
        "\N{CHECK MARK} VALID",
        "INVALID: too slow",
        "an earlier build",
        "2 ms (early stopping p90 latency)",
        "min_duration_ms 10000 (not 600000)",
        "ONNX Runtime over the graph; no GPU",
        "not a result of schema cmx4trt-bench/1",
    ):
        assert text in page.text, text
    compared = show(published, published.copy("other", request={"batch_size": 4})).text
    assert "Offline 123.5 samples/s" in compared
    assert "Short 123.5 samples/s (INVALID)" in compared
    assert "ONNX Runtime over the graph" in compared
    assert "too slow" not in compared


@pytest.mark.parametrize(
    ("name", "expected"),
    [(None, "RTX 4090"), ("L4", "L4"), ("H200", "This engine was not built for the H200")],
)
def test_the_gpu_of_the_estimate(published: Any, show: Callable[..., Any], name: str | None, expected: str) -> None:
    page = show(published, gpu=name)
    assert expected in page.text
    assert "Estimate. " in page.texts["strong"]


def test_no_published_rate_no_estimate(published: Any, show: Callable[..., Any]) -> None:
    graph = published.manifest["graph"]
    for layer in graph["layers"]:
        layer["precision"] = "bf16"
    published.edit(graph=graph)
    page = show(published, gpu="T4")
    assert "NVIDIA publishes no peak rate of the T4 for one of this engine's precisions." in page.text
    assert page.all("svg") == []


def test_several_engines(published: Any, show: Callable[..., Any]) -> None:
    larger = published.copy("larger", request={"batch_size": 8})
    exact = published.copy("exact", request={"precision": "fp32"}, verification={"verdict": "skipped"})
    other = published.copy("other", network={"title": "Another network"})
    page = show(published, larger, exact, other)
    assert page.texts["h1"] == ["4 engines of ResNet-50 v1.5 and Another network"]
    assert page.texts["h2"] == ["ResNet-50 v1.5", "Another network", "How speeds are estimated"]
    for text in ("FP16, batch 2", "FP16, batch 8", "FP32, batch 2", "batch 8", str(larger.engine), "\N{EN DASH} no"):
        assert text in page.text, text
    assert len(page.all("svg")) == 1  # only one network has several batches of a precision


def test_plots_of_two_networks_share_no_id(published: Any, show: Callable[..., Any]) -> None:
    engines = [published, published.copy("larger", request={"batch_size": 8})]
    engines += [engine.copy(f"other{i}", network={"title": "Another"}) for i, engine in enumerate(engines)]
    page = show(*engines)
    assert len(page.all("svg")) == 2
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10


def test_engines_that_cannot_run_on_the_gpu_are_marked(
    published: Any, show: Callable[..., Any], tmp_path: Path
) -> None:
    engines = [published, published.copy("ampere", request={"target": "sm80+sm86"})]
    both = show(*engines)
    assert "estimates for A40" in both.text
    assert "not built for this GPU" not in both.text
    text = (tmp_path / "shown.html").read_text()
    show(*engines[::-1])
    assert (tmp_path / "shown.html").read_text() == text, "the order of the files changes nothing"
    for gpu, marked in (("RTX 4090", 1), ("H200", 2)):
        marks = show(*engines, gpu=gpu).text.count("not built for this GPU")
        assert marks == 3 * marked, "in two cells of the table and one of the matrix"


def test_the_curve_has_engines_only_that_can_run_on_the_gpu(published: Any, show: Callable[..., Any]) -> None:
    engines = [published, published.copy("larger", request={"batch_size": 8})]
    assert len(show(*engines, gpu="L4").all("svg")) == 1
    assert show(*engines, gpu="H200").all("svg") == []


def test_a_native_engine_is_for_the_gpu_it_was_built_on(published: Any, show: Callable[..., Any]) -> None:
    published.edit(request={"builder": "tensorrt", "target": "current"}, builder={"gpu": {"name": "NVIDIA L40S"}})
    page = show(published)
    assert "On L40S a batch of 2" in page.text
    assert "A100" not in page.text
    assert "This engine was not built for the T4" in show(published, gpu="T4").text


def test_an_estimate_says_what_it_leaves_out(published: Any, show: Callable[..., Any]) -> None:
    published.edit(graph={"uncounted_operators": {"TopK": 13, "Where": 172, "Greater": 96}})
    page = show(published)
    (box,) = re.findall(r"Estimate\. On .*?cache\.(.*?)\.", page.text)
    assert box == " Excluded from these figures: post-processing, 281 operators (172 Where, 96 Greater, 13 TopK)"
    assert "Excluded: post-processing, 281 operators" in page.text
    many = published.copy("many", graph={"uncounted_operators": {f"Op{count}": count for count in range(1, 9)}})
    assert "36 operators (8 Op8, 7 Op7, 6 Op6, 5 Op5, 4 Op4, 3 Op3, …)" in show(many).text
    whole = published.copy("whole", graph={"uncounted_operators": {}})
    compared = show(published, whole)
    assert compared.text.count("; excluded: post-processing") == 2
    assert "post-processing" not in show(whole).text
    assert "post-processing" not in show(whole, whole.copy("second")).text


def test_measured_figures_have_no_exponent(published: Any, show: Callable[..., Any]) -> None:
    published.add_run("Offline", metric={"name": "samples_per_second", "value": 12345.6, "unit": "samples/s"})
    published.add_run("SingleStream", metric={"name": "p90", "value": 23_456_700_000, "unit": "ns"})
    published.add_run("Server", latency_ns={"50.00": 1_000_000, "99.00": 34_567_800_000})
    for page in (show(published), show(published, published.copy("other"))):
        assert "12,346 samples/s" in page.text
        assert "23,457 ms" in page.text
        assert "e+" not in page.text
    assert "p50 1, p99 34,568 ms" in show(published).text


def test_engines_alike_in_batch_and_precision_are_told_apart(published: Any, show: Callable[..., Any]) -> None:
    page = show(published, published.copy("ada", request={"target": "sm89"}))
    assert "(tensorrt-rtx, sm89, Offline)" in page.text


def test_a_missing_matplotlib_leaves_a_page_without_plots(
    published: Any, show: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    notes: list[str] = []
    page = show(published, note=notes.append)
    assert page.all("svg") == []
    assert "No plot: plots need matplotlib" in page.text
    assert "res2a_branch2a" in page.text
    assert len(notes) == 1
    assert "pip install matplotlib" in notes[0]


def test_an_engine_that_is_gone_or_changed(published: Any, show: Callable[..., Any]) -> None:
    published.engine.write_bytes(b"an engine of 22 bytes!")
    assert "is not the file that was published (truncated or edited)" in show(published).text
    published.engine.unlink()
    page = show(published)
    assert "cannot be read (No such file or directory)" in page.text
    assert "\N{BALLOT X} failed" in page.text


def test_verdicts_by_case(published: Any) -> None:
    def statuses() -> list[str]:
        return [verdict.status for verdict in verdicts_of_engine(facts_of_engine(str(published.engine)))]

    assert statuses()[:2] == [YES, OPEN]
    verification = published.manifest["verification"]
    published.edit(execution={**verification, "engine_executed_on_a_device": "yes", "device": "NVIDIA L4"})
    assert statuses()[:2] == [YES, YES]
    published.edit(execution={"verdict": "failed"})
    assert statuses()[:2] == [YES, NO]
    published.drop("execution", "verdict")
    assert statuses()[:2] == [YES, OPEN]
    int8 = {"sqnr_db": {}, "agreement": 0.25, "agreement_of": "detections", "limit_agreement": 0.5, "images": 2}
    for verdict, trained, status in (("passed", True, YES), ("failed", True, NO), ("skipped", False, OPEN)):
        published.edit(execution={**int8, "verdict": verdict, "trained": trained})
        found = verdicts_of_engine(facts_of_engine(str(published.engine)))[1]
        assert found.status == status
        assert "the engine, run on NVIDIA L4, " in found.sentence
        assert "25.0% of detections agree, limit 50.0%. Measured on 2 calibration images" in found.figures
    published.edit(verification={"verdict": "failed"})
    assert statuses()[0] == NO
    published.edit(verification={"verdict": "skipped", "sqnr_db": {"y": 3.0}, "synthetic": True})
    assert statuses()[0] == OPEN
    published.edit(verification={"verdict": "failed", "synthetic": False})
    assert statuses()[0] == NO


def test_detections_in_words(published: Any) -> None:
    published.drop("verification", *published.manifest["verification"])
    counted = {
        "verdict": "passed",
        "images": 2,
        "detections_of_original": 2000,
        "head_error": 1e-3,
        "head_error_limit": 0.01,
    }
    layers = {"layers": 222, "judged": 220, "error_over_bound": 0.25}
    published.edit(verification={**counted, "matched_fraction_at_iou_0.9": 0.99, "layers": layers})
    (graph, *_) = verdicts_of_engine(facts_of_engine(str(published.engine)))
    assert "99.0% of 2000 detections on 2 images matched; relative error of the heads 0.001" in graph.figures
    assert "220 of 222 layers agree with the original up to rounding; the largest error is 0.25" in graph.figures
    published.drop("verification", "head_error", "layers")
    published.edit(verification={"matched_fraction_limit": 0.45})
    (engine, *_) = verdicts_of_engine(facts_of_engine(str(published.engine)))
    assert "99.0% of 2000 detections on 2 images matched, limit 45.0%." in engine.figures


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("stages", {"build": "long"}, "stages.build is 'long', expected a number"),
        ("engine", {"bytes": "many"}, "engine.bytes is 'many', expected a whole number"),
        ("request", {"batch_size": None}, "request.batch_size is None, expected a whole number"),
        ("graph", {"layers": [{"name": "only"}]}, "has a value that a report cannot show"),
        ("graph", {"layers": 3}, "graph.layers is 3, expected a list"),
    ],
)
def test_manifests_with_odd_values_end_in_a_sentence(
    published: Any, part: str, value: dict[str, Any], words: str
) -> None:
    published.edit(**{part: value})
    with pytest.raises(ModelError, match=re.escape(words)):
        facts_of_engine(str(published.engine))


def test_intensity_is_that_of_the_batch_that_the_estimate_is_for(
    published: Any, show: Callable[..., Any], tmp_path: Path
) -> None:
    """In every row: layers that arithmetic limits have more operations per byte than those that memory limits."""
    published.edit(request={"batch_size": 256})
    show(published, gpu="A40")
    rows = re.findall(r"<td>FP16</td>.*?</tr>", (tmp_path / "shown.html").read_text(), re.S)
    intensities: dict[str, list[float]] = {"arithmetic": [], "memory": []}
    for row in rows:
        *_, intensity, _, limit = re.findall(r"<td[^>]*>([^<]*)</td>", row)
        intensities[limit].append(float(intensity.replace(",", "")))
    assert len(rows) > 50
    assert min(map(len, intensities.values())) > 5
    assert min(intensities["arithmetic"]) > max(intensities["memory"])


def test_a_figure_of_the_graph_is_not_the_engines(published: Any, show: Callable[..., Any]) -> None:
    """Above a figure nothing says that there is none, and what ran instead of the engine is named beside it."""
    published.add_run("Offline")
    text = show(published).text
    assert "nothing was measured" not in text.lower()
    assert "Offline, performance: 123.5 samples/sThis is not the speed of the engine: its graph ran instead" in text
    assert "The engine itself has not run" in text


def test_an_engine_that_ran_under_loadgen_has_run(published: Any, show: Callable[..., Any]) -> None:
    published.add_run("Offline", executed="the engine itself, by TensorRT-RTX 1.7 on NVIDIA L40S")
    page = show(published)
    assert "The engine itself has run under LoadGen" in page.text
    assert "yesengine run on a device" in page.text
    assert "This is not the speed of the engine" not in page.text


def timeline(gpus: int = 2, points: int = 12) -> dict[str, Any]:
    one = {"sm_clock_mhz": [1980] * points, "watts": [650.5] * points}
    return {
        "seconds": list(range(points)),
        "samples_per_second": [1e5] * points,
        "gpus": [dict(one) for _ in range(gpus)],
    }


def test_a_run_is_drawn_over_time_with_what_throttled_it(published: Any, show: Callable[..., Any]) -> None:
    gpus = [{"index": index, "name": "H100", "samples": 5, "share": 0.5, "limits": {}} for index in range(2)]
    published.add_run("Offline", gpus=gpus, notes=["GPU 1 (H100): its clock fell"], timeline=timeline())
    page = show(published)
    assert "samples by GPUGPU 0 50.0 %, GPU 1 50.0 %" in page.text
    assert "throttledGPU 1 (H100): its clock fell" in page.text
    labels = [attributes.get("aria-label") or "" for _, attributes in page.elements]
    assert any(label.startswith("samples/s, clock, MHz, power, W over the run") for label in labels)


@pytest.mark.parametrize(
    "short",
    [
        {},
        timeline(points=2),
        timeline(gpus=0),
    ],
)
def test_a_timeline_that_is_short_is_no_failure(
    published: Any, show: Callable[..., Any], short: dict[str, Any]
) -> None:
    published.add_run("Offline", timeline=short)
    assert "123.5 samples/s" in show(published).text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"timeline": {"seconds": 5}}, "timeline.seconds is 5, expected a list"),
        ({"timeline": {"gpus": [1]}}, "timeline.gpus[0] is 1, expected an object"),
        ({"latency_ns": {"50.00": "x"}}, "latency_ns.50.00 is 'x', expected a whole number"),
        ({"accuracy": {"value": "high"}}, "accuracy.value is 'high', expected a number"),
        ({"subject": 3}, "subject is 3, expected an object"),
    ],
)
def test_a_result_that_somebody_edited_is_named_with_what_is_wrong(
    published: Any, show: Callable[..., Any], changes: dict[str, Any], words: str
) -> None:
    path = published.add_run("Offline")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    text = show(published).text
    assert f"Unreadable result: {path} ({words})." in text
    assert "123.5 samples/s" not in text


def test_the_heading_of_an_accuracy_run_is_the_accuracy(published: Any, show: Callable[..., Any]) -> None:
    accuracy = {"metric": "top-1", "value": 0.0, "target": 75.6914, "images": 500, "verdict": "none", "note": "too few"}
    published.add_run("Offline", mode="accuracy", valid=None, metric={}, accuracy=accuracy)
    unmeasured = {"images": 500, "verdict": "none", "note": "synthetic data has no labels"}
    published.add_run("Server", mode="accuracy", valid=None, metric={}, accuracy=unmeasured)
    page = show(published)
    assert "Offline, accuracy: 0 % top-1" in page.texts["h3"]
    assert "Server, accuracy" in page.texts["h3"], "no dash in place of a figure"
    assert "0 % top-1 on 500 images; MLPerf requires 75.6914 %; verdict none; too few" in page.text


def test_sizes_have_units(published: Any, show: Callable[..., Any]) -> None:
    published.edit(
        request={"workspace_size": 4 << 30},
        builder={"max_scratch_memory_bytes": 12_345_678, "gpu": {"name": "L40S", "memory_bytes": 48_000_000_000}},
    )
    text = show(published).text
    assert "workspace_size4 GiB" in text
    assert "max scratch memory12.3 MB" in text
    assert "gpu memory48.0 GB" in text
    assert not re.search(r"\b\d{7,}\b(?! ?GB)", re.sub(r"[0-9a-f]{64}|/\S+", "", text)), "bytes that nobody can read"
