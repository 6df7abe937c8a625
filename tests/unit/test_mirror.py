"""The tests mirror the tree: what is tested where can be seen from the names, or is listed here."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE, UNIT = ROOT / "cmx4trt", ROOT / "tests" / "unit"

DECLARATIONS = "they declare, and do nothing by themselves: what follows from them is tested where it is used"
EDGES = "what they are for is a process, a framework or a browser"
STAND_INS = "they talk to a driver or to LoadGen, for which that test has the stand-in"
STEPS = (
    "steps of one computation: whether one is right shows in the result of all, which that test compares with another's"
)

THROUGH: dict[str, dict[str, tuple[str, ...]]] = {
    DECLARATIONS: {
        "cm/test_add_an_option.py": ("base/options.py",),
        "unit/backends/common_code/test_common_code.py": (
            "backends/common_code/networks.py",
            "backends/common_code/options.py",
        ),
        "unit/backends/hopper/test_container.py": ("devices/base.py",),
        "unit/backends/hopper/test_measure.py": (
            "backends/facts.py",
            "sessions/base.py",
        ),
        "unit/backends/tensorrt/test_inspection.py": ("backends/tensorrt/library.py",),
        "unit/backends/tensorrt/test_native.py": (
            "backends/tensorrt/options.py",
            "graph/spec.py",
            "requests/evaluation.py",
        ),
        "unit/frameworks/test_evaluation.py": ("requests/evaluation_options.py",),
        "unit/graph/test_layer_counts.py": ("ir/int8.py",),
        "unit/networks/resnet50/test_nvidia_names.py": ("networks/resnet50/spec.py",),
        "unit/networks/retinanet/test_retinanet_comparison.py": ("networks/retinanet/options.py",),
        "unit/networks/test_added_network.py": ("graph/options.py",),
        "unit/pipeline/test_build.py": ("backends/base.py",),
        "unit/quantize/test_flavor.py": ("backends/flavor.py",),
        "unit/requests/test_build.py": ("backends/options.py",),
        "unit/sweep/test_file.py": ("sweep/options.py",),
        "unit/verify/test_verify_engine.py": ("base/verdicts.py",),
    },
    EDGES: {
        "browser/test_gui_page.py": ("gui/page_form.py",),
        "cm/test_cm_runs.py": ("frameworks/interruptions.py",),
        "cm/test_contract.py": ("cm/meta.py",),
        "cm/test_docker.py": ("cli/docker_setup.py",),
        "cm/test_help.py": ("frameworks/help.py",),
        "cm/test_install_routes.py": (
            "cli/cm_setup.py",
            "cm/setup.py",
        ),
        "cm/test_sweep.py": ("frameworks/sweep.py",),
        "mlc/test_mlc_meta.py": ("mlc/meta.py",),
        "mlc/test_mlc_runs.py": (
            "cli/mlc_setup.py",
            "mlc/hooks.py",
            "mlc/setup.py",
        ),
        "unit/cli/test_cli.py": (
            "cli/build.py",
            "cli/inspect.py",
        ),
        "unit/cli/test_cli_help.py": ("cli/arguments.py",),
        "unit/gui/test_gui_server.py": ("cli/gui.py",),
        "unit/pipeline/test_build.py": ("cli/rows.py",),
        "unit/pipeline/test_tune.py": ("cli/tune.py",),
    },
    STAND_INS: {
        "unit/backends/hopper/test_samples_fetched.py": ("sessions/samples.py",),
        "unit/backends/hopper/test_session.py": (
            "backends/hopper/feeds.py",
            "backends/hopper/supply.py",
        ),
        "unit/backends/tensorrt/test_native.py": ("backends/tensorrt/timing_cache.py",),
        "unit/backends/tensorrt/test_tensorrt_session.py": ("devices/graphs.py",),
        "unit/bench/test_bench_runs.py": ("bench/run.py",),
        "unit/devices/test_cuda.py": (
            "devices/active.py",
            "devices/by_symbol.py",
            "devices/tensor_maps.py",
        ),
        "unit/pipeline/test_evaluate_accuracy.py": ("pipeline/executable.py",),
    },
    STEPS: {
        "docs/test_manifest_schema.py": ("quantize/sensitivity.py",),
        "unit/backends/hopper/test_compiler.py": (
            "backends/hopper/checks.py",
            "backends/hopper/wgmma.py",
        ),
        "unit/backends/hopper/test_container.py": (
            "backends/hopper/arguments.py",
            "backends/hopper/plan_json.py",
        ),
        "unit/backends/hopper/test_lowering.py": (
            "backends/hopper/reading.py",
            "backends/hopper/windows.py",
            "networks/classification/outputs.py",
        ),
        "unit/backends/hopper/test_schedule.py": (
            "backends/hopper/launches.py",
            "backends/hopper/products.py",
        ),
        "unit/cli/test_prepare_command.py": ("pipeline/saved.py",),
        "unit/graph/judge/test_judge.py": (
            "graph/judge/bounds.py",
            "graph/judge/fragment.py",
            "graph/judge/judgement.py",
            "graph/judge/values.py",
        ),
        "unit/ir/test_float32_quantize.py": (
            "ir/decoding.py",
            "ir/encoding.py",
        ),
        "unit/networks/classification/test_labels.py": (
            "bench/labels.py",
            "images/lists.py",
        ),
        "unit/networks/resnet50/test_resnet50_import.py": ("networks/classification/onnx_import.py",),
        "unit/networks/retinanet/test_candidates.py": ("ir/writer.py",),
        "unit/networks/retinanet/test_heads.py": ("networks/resnet50/random_weights.py",),
        "unit/networks/retinanet/test_responses.py": ("networks/retinanet/records.py",),
        "unit/networks/retinanet/test_retinanet_import.py": (
            "networks/retinanet/anchors.py",
            "networks/retinanet/body.py",
            "networks/retinanet/onnx_import.py",
        ),
        "unit/networks/test_file_forms.py": (
            "networks/classification/quantized_file.py",
            "networks/graphs.py",
            "networks/normal_form.py",
            "verify/own_scales.py",
        ),
        "unit/quantize/test_quantizer.py": ("quantize/own.py",),
        "unit/report/test_report_measured_speed.py": ("report/parts.py",),
        "unit/report/test_report_page.py": (
            "report/int8.py",
            "report/own.py",
        ),
        "unit/sweep/test_file.py": ("sweep/located.py",),
    },
}
"""Why a module has no test file of its own -> test file below tests -> the modules that are tested through what it calls. A new
module gets its own file instead."""

LISTED = [name for group in THROUGH.values() for names in group.values() for name in names]


def modules() -> list[str]:
    found = (path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")))
    return [str(one) for one in found if not {"script", "repo"} & set(one.parts) and not one.stem.startswith("__")]


def names_it(test: Path, module: Path) -> bool:
    """test_MODULE, test_PACKAGE_MODULE, either with more behind it, or …_MODULE where words stand before."""
    name = module.stem
    begins = (f"test_{name}", *(f"test_{package}_{name}" for package in module.parts[:-1]))
    return (
        test.stem in begins
        or test.stem.startswith(tuple(f"{one}_" for one in begins))
        or test.stem.endswith(f"_{name}")
    )


@cache
def imported_by(test: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("name", modules())
def test_every_module_has_its_tests_where_it_lies_or_is_listed(name: str) -> None:
    module = Path(name)
    beside = sorted((UNIT / module.parent).glob("test_*.py"))
    dotted = ".".join(("cmx4trt", *module.with_suffix("").parts))
    mirrored = any(names_it(test, module) or dotted in imported_by(test) for test in beside)
    listed = name in LISTED
    assert mirrored or listed, f"write {UNIT.relative_to(ROOT) / module.parent}/test_{module.stem}.py"
    assert not (mirrored and listed), f"{name} has its tests: take it from the list"


def test_what_is_listed_exists() -> None:
    assert set(LISTED) <= set(modules())
    assert len(LISTED) == len(set(LISTED))
    assert [test for group in THROUGH.values() for test in group if not (ROOT / "tests" / test).is_file()] == []


def test_tests_lie_in_folders_of_the_package() -> None:
    folders = {path.parent.relative_to(UNIT) for path in UNIT.rglob("test_*.py")}
    assert {str(folder) for folder in folders if not (PACKAGE / folder).is_dir()} == set()
