"""Checkouts of NVIDIA's code that behave like each generation, made on the spot."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cmx4trt.requests.build import BuildRequest

MAIN = Path(__file__).parents[3] / "data" / "common_code" / "fake_main.py"
GENERATIONS = ("r2.1", "r3.0", "r4.0", "r4.1", "r5.0", "r5.1", "r6.0")
SYSTEM = "H200-SXM-141GBx1"
CALIBRATION_IMAGES = ("ILSVRC2012_val_00008692.JPEG", "ILSVRC2012_val_00035234.JPEG")
_RETINANET = "models/retinanet-resnext50-32x4d"
_TORCH_FILE = f"{_RETINANET}/retinanet-fpn-torch2.1-postprocessed.onnx"
_RETINANET_FILES = {
    "r2.1": f"{_RETINANET}/submission/retinanet_resnext50_32x4d_efficientNMS.800x800.onnx",
    "r3.0": f"{_RETINANET}/retinanet-fpn.onnx",
}
_CONCAT = "build/plugins/retinanetConcatPlugin/libretinanetconcatplugin.so"
_NMS = "build/plugins/NMSOptPlugin/libnmsoptplugin.so"
_MATCHED = """
class System:
    def get_id(self):
        return {id!r}
DETECTED_SYSTEM = System()
MATCHED_SYSTEM = {matched}
"""
_EXTRAS = """
import os
{before}
class System:
    extras = {{"tags": set()}}
DETECTED_SYSTEM = System()
{after}
"""
_UNREGISTERED = """
name = os.environ.get("SYSTEM_NAME") or {id!r}
if not name:
    import sys
    sys.stderr.write("[main.py:270 ERROR] Runtime system not found in built-ins. Please specify a system name.\\n")
    name = "UNREGISTERED_x86_64_NVIDIA_H200x1"
System.extras["id"] = name
"""


class Checkout:
    """A stand-in for closed/NVIDIA of one generation, with everything in place; ``root`` is the folder."""

    def __init__(self, folder: Path, generation: str) -> None:
        self.generation = generation
        self.root = folder / "closed" / "NVIDIA"
        self.scratch = folder / "scratch"
        self.workloads = generation in ("r5.1", "r6.0")
        self.models = {
            "resnet50": "models/ResNet50/resnet50_v1.onnx",
            "retinanet": _RETINANET_FILES.get(generation, _TORCH_FILE),
        }
        self.plugins = [_CONCAT] if generation == "r2.1" else [_CONCAT, _NMS]
        self.checkers = ["submission-checker.py"] if generation == "r2.1" else ["submission_checker.py"]
        self.inference = "3rdparty/mlc-inference" if generation == "r6.0" else "build/inference"
        self._write_code()
        self._write_inputs()
        self.behave("ok")
        self.know_system(SYSTEM)

    def behave(self, outcome: str) -> None:
        """What the next run of make does."""
        behaviour = {
            "generation": self.generation,
            "outcome": outcome,
            "models": self.models,
            "plugins": self.plugins,
            "checkers": self.checkers,
        }
        self.write("behaviour.json", json.dumps(behaviour))
        if outcome == "unknown system":
            self.know_system(None)
        if outcome == "no config" and self.workloads:
            shutil.rmtree(self.root / "configs")

    def know_system(self, system: str | None) -> None:
        """Whether the machine is in the release's list of systems."""
        if self.generation in ("r2.1", "r3.0", "r4.0", "r4.1"):
            text = _MATCHED.format(id=system, matched="None" if system is None else "object()")
        elif self.generation == "r5.0":
            text = _EXTRAS.format(before="", after=f'System.extras["id"] = {system!r}' if system else "")
        else:
            before = 'os.listdir("build")  # must exist before the import' if self.generation == "r5.1" else ""
            text = _EXTRAS.format(before=before, after=_UNREGISTERED.format(id=system))
        self.write("code/common/systems/system_list.py", text)

    def write(self, path: str, text: str = "") -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def parsed(self) -> dict[str, Any]:
        """What the program understood of the flags."""
        return json.loads((self.root / "parsed.json").read_text())  # type: ignore[no-any-return]

    def _write_code(self) -> None:
        main = "main_v2" if self.generation == "r2.1" else "main"
        self.write(
            "Makefile",
            "SHELL := /bin/bash\n"
            "link_dirs:\n"
            "\t@mkdir -p build $(MLPERF_SCRATCH_PATH)/{data,preprocessed_data,models}\n"
            "\t@for d in data preprocessed_data models; do ln -sfn $(MLPERF_SCRATCH_PATH)/$$d build/$$d; done\n"
            "generate_engines: link_dirs\n"
            f'\t@python3 -m code.{main} $(RUN_ARGS) --action="generate_engines"\n',
        )
        self.root.joinpath("code").mkdir(parents=True, exist_ok=True)
        shutil.copy(MAIN, self.root / "code" / f"{main}.py")
        for package in ("code", "code/common", "code/common/systems"):
            self.write(f"{package}/__init__.py")
        fields = {
            "r4.1": "must follow the format of component1",
            "r5.0": "must follow the format of component1\nengine_dir",
        }
        if self.workloads:
            self.write("code/fields/models.py", "# component batches\n")
            for model in self.models:
                self.write(f"configs/{SYSTEM}/Offline/{model}.py", "EXPORTS = {}\n")
        else:
            self.write("code/common/fields.py", f"# {fields.get(self.generation, 'integers')}\n")
        if self.generation == "r6.0":
            self.write("src/README.md")
            self.write("3rdparty/trtllm/README.md")
        if self.generation >= "r4":
            self.write("VERSION", f"v{self.generation[1:]}\n")
        self.write(
            "code/retinanet/tensorrt/Retinanet.py", f"model_path = '{os.path.basename(self.models['retinanet'])}'\n"
        )

    def _write_inputs(self) -> None:
        for model in self.models:
            self.write(f"code/{model}/tensorrt/calibrator.cache", "TRT-100100-EntropyCalibration2\n")
        lines = "".join(f"{name} 1\n" for name in CALIBRATION_IMAGES)
        self.write("data_maps/imagenet/cal_map.txt", lines)
        self.write("data_maps/open-images-v6-mlperf/cal_map.txt", lines)
        for plugin in self.plugins:
            self.write(plugin)
        for checker in self.checkers:
            self.write(f"{self.inference}/tools/submission/{checker}")
        arrays = self.scratch / "preprocessed_data" / "imagenet" / "ResNet50" / "fp32"
        arrays.mkdir(parents=True)
        for name in CALIBRATION_IMAGES:
            (arrays / f"{name}.npy").touch()
        for name, path in self.models.items():
            file = self.scratch / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{name} classification_head_100 EfficientNMS_TRT")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_pycuda: ModuleType) -> Callable[[str], Checkout]:
    """A stand-in for a generation's checkout; pythons are this one, and MLPERF_SCRATCH_PATH is set."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("python3", "python3.8"):
        (programs / name).symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (programs / "mlperf_loadgen.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(programs))
    monkeypatch.delenv("SYSTEM_NAME", raising=False)

    def make(generation: str) -> Checkout:
        made = Checkout(tmp_path / generation, generation)
        monkeypatch.setenv("MLPERF_SCRATCH_PATH", str(made.scratch))
        return made

    return make


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., BuildRequest]:
    """A request for the common-code builder on a checkout."""

    def make(checkout: Checkout, **values: object) -> BuildRequest:
        defaults = {"device": "cuda", "common_code": checkout.root, "output_dir": tmp_path / "out", "batch_size": 16}
        if values.get("network") == "retinanet":
            defaults["workspace_size"] = "16GiB"
        return BuildRequest.from_values({**defaults, **values})

    return make
