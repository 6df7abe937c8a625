"""MLC's meta.yaml is the one that _cm.yaml gives, and says the same."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmx4trt.mlc.hooks import MLC_FLAGS
from cmx4trt.mlc.meta import mlc_meta

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = ROOT / "cmx4trt" / "mlc" / "repo"
META = REPOSITORY / "script" / "generate-nvidia-engine" / "meta.yaml"


@pytest.fixture(scope="module")
def both() -> tuple[dict[str, Any], dict[str, Any]]:
    return yaml.safe_load((ROOT / "_cm.yaml").read_text()), yaml.safe_load(META.read_text())


def test_written_from_cm() -> None:
    wanted = mlc_meta((ROOT / "_cm.yaml").read_text(encoding="utf-8"))
    if os.environ.get("CMX4TRT_WRITE_DOCS"):
        META.write_text(wanted, encoding="utf-8")
        return
    assert META.read_text(encoding="utf-8") == wanted, (
        "CMX4TRT_WRITE_DOCS=1 python -m pytest tests/mlc/test_mlc_meta.py"
    )


def test_the_same_script(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    cm, mlc = both
    for key in ("alias", "uid", "automation_alias", "automation_uid", "tags", "category", "name"):
        assert mlc[key] == cm[key]
    assert list(mlc["input_mapping"]) == list(cm["input_mapping"])
    assert list(mlc["variations"]) == list(cm["variations"])
    assert len(mlc["deps"]) == len(cm["deps"])
    assert mlc["new_env_keys"] == ["MLC_DATASET_*", "MLC_MLPERF_*"]
    assert "min_cm_version" not in mlc
    assert mlc["deps"][2]["tags"] == "get,sys-utils-mlc"


def test_nothing_of_cm_is_left() -> None:
    text = META.read_text(encoding="utf-8").split("\n", 1)[1]
    assert re.findall(r"\bCM[_' ]\w*|\bcmr\b|\bcmind\b|\bcmx4mlops\b|\bcm_\w+", text) == []


def test_the_repository(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    repository = yaml.safe_load((REPOSITORY / "meta.yaml").read_text())
    assert repository["alias"] == yaml.safe_load((ROOT / "cmr.yaml").read_text())["alias"]
    assert repository["git"] is False, "mlc pull repo would run git in it"


def test_mlc_takes_it() -> None:
    module = pytest.importorskip("mlc", reason="MLCFlow is not installed (pip install mlcflow)")
    folder = Path(inspect.getfile(module)).parents[1] / "automation" / "script"
    scope: dict[str, Any] = {}
    exec((folder / "meta_schema.py").read_text(encoding="utf-8"), scope)
    errors, _ = scope["validate_meta"](yaml.safe_load(META.read_text()), "generate-nvidia-engine")
    assert errors == [], "warnings are for keys that MLC passes over, such as desc, which our help shows"


def test_flags_of_mlc_are_known() -> None:
    """Every input that MLC's documentation of ``run`` names is either passed over or refused with a reason."""
    module = pytest.importorskip("mlc", reason="MLCFlow is not installed (pip install mlcflow)")
    source = Path(inspect.getfile(module)).parents[1] / "automation" / "script" / "module.py"
    documentation = source.read_text(encoding="utf-8").split("def run(self, i):", 1)[1].split('"""', 2)[1]
    documented = set(re.findall(r"^ +\((\w+)\) \(", documentation, re.MULTILINE))
    assert len(documented) > 40
    refused = {"input", "output", "outbasename", "path", "version", "version_min", "version_max", "version_max_usable"}
    assert documented - MLC_FLAGS == refused
