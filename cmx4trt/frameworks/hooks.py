"""What happens between a ``cmr`` or ``mlcr`` line and ``python -m cmx4trt build``, and back.

The three hooks run inside the framework's own process, so: standard library only, nothing heavy, no exception may escape. An
error is returned as ``{'return': exit code, 'error': one sentence}``; CM prints it after "CM error:" and adds an exclamation
mark. Facts about the frameworks that shape this module: dependencies run between ``predeps`` and ``preprocess``; every
``tmp-*`` file goes to the current folder; CM's mapped inputs are constants and win over the environment.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cmx4trt.base.damage import printable
from cmx4trt.base.telemetry import switch_off
from cmx4trt.base.values import parse_bool
from cmx4trt.errors import (
    EXIT_INTERRUPTED,
    EXIT_UNFORESEEN,
    OUT_OF_MEMORY,
    CmxError,
    DeviceError,
    RequestError,
    UnsupportedError,
)
from cmx4trt.frameworks.base import EXPORT_PREFIX, RESULT_PREFIX, SWEEP_PREFIX, Framework
from cmx4trt.frameworks.dependencies import keys_for_dependencies, with_dependencies
from cmx4trt.frameworks.evaluation import ScriptEvaluation, evaluation_of_environment
from cmx4trt.frameworks.input import check_exports, check_flags, check_value, with_words
from cmx4trt.frameworks.interruptions import Interruptions
from cmx4trt.frameworks.keys import internal_keys
from cmx4trt.frameworks.precedence import option_values, values_in_effect
from cmx4trt.frameworks.sweep import sweep_of_environment
from cmx4trt.frameworks.worker import read_result, root_of_clone
from cmx4trt.requests.build import BuildRequest

Answer = dict[str, Any]
"""What a hook returns to the framework: at least 'return', and 'error' when that is not 0."""
Hook = Callable[[Answer], Answer]

_RUN_KEY = "cmx4trt_run"
_RUN_SCRIPT = "run.sh"
"""Beside this file: what the run.sh of every framework's script runs."""


@dataclass(slots=True)
class _Run:
    """One run of the script, from predeps to postprocess."""

    request: BuildRequest
    evaluation: ScriptEvaluation
    sweep: str
    """The sweep file that runs in place of the request; empty without one."""
    dry_run: bool
    home: str
    """The folder the user called from."""
    scratch: str
    """The private folder that the framework's temporary files go to meanwhile."""
    interruptions: Interruptions
    callers: dict[str, Any]
    """As a dependency: the calling script's values of our inputs; None for those it has not, and those given as flags."""


_runs: dict[str, _Run] = {}
"""Runs not yet left, by scratch folder: what is still here at exit failed in a dependency, where no hook is called."""


@dataclass(frozen=True)
class Hooks:
    """The three functions of customize.py, for one framework."""

    framework: Framework

    def predeps(self, i: Answer) -> Answer:
        """Check everything the user said, then move to a private folder, before the framework starts its first shell."""
        return self._guarded(self._predeps, i)

    def preprocess(self, i: Answer) -> Answer:
        """Write the request file for run.sh; the model is now known."""
        return self._guarded(self._preprocess, i)

    def postprocess(self, i: Answer) -> Answer:
        """Export what the worker's result file says, or return its error."""
        return self._guarded(self._postprocess, i)

    def _guarded(self, hook: Hook, i: Answer) -> Answer:
        code, text = EXIT_UNFORESEEN, ""
        try:
            return hook(i)
        except CmxError as error:
            code, text = error.exit_code, str(error)
        except MemoryError:
            code, text = DeviceError.exit_code, OUT_OF_MEMORY
        except KeyboardInterrupt:
            code, text = EXIT_INTERRUPTED, "interrupted"
        except Exception as error:
            text = f"unforeseen {type(error).__name__} in {hook.__name__.lstrip('_')}: {error}"
        run = i["run_script_input"].get(_RUN_KEY)
        if run is not None:
            _leave(run)
        return self._failed(i, code, text)

    def _failed(self, i: Answer, code: int, text: str) -> Answer:
        """The answer with one sentence; a typed line of a framework that loses the exit status ends here."""
        sentence = printable(" ".join(text.split())).rstrip(".!?")
        if self.framework.exits and self.framework.typed(i["input"]):
            sys.stderr.write(f"{self.framework.name} error: {sentence}!\n")
            sys.stderr.flush()
            raise SystemExit(code)
        return {"return": code, "error": sentence}

    def _predeps(self, i: Answer) -> Answer:
        switch_off()  # for the scripts we depend on, too
        framework = self.framework
        env, given, meta = i["env"], i["input"], i["meta"]
        const, mapping = i["run_script_input"]["const"], meta["input_mapping"]
        if given.get("h") and framework.typed(given):
            from cmx4trt.frameworks.help import end_with_help

            end_with_help(framework, meta)
        self._check_input(i)
        values = values_in_effect(framework, i, with_words(framework, {**env, **const}, mapping))
        sweep = sweep_of_environment(framework, i, values, mapping)
        asked = option_values(values, mapping, framework.prefix)
        if sweep:  # its models are its own: nothing is fetched
            asked = {"random_weights": 0, "output_dir": asked["output_dir"]}
        request = BuildRequest.from_values(asked)
        evaluation = evaluation_of_environment(framework, values, given, mapping, request)
        evaluation.needs_loadgen_too = bool(sweep)
        dry_run = parse_bool("dry_run", values.get(mapping["dry_run"], False)) or bool(given.get("h"))
        python = env.setdefault(framework.key("PYTHON_BIN_WITH_PATH"), sys.executable)
        if not given.get("h") and not sweep:
            _check_early(request, python == sys.executable)
        callers = {key: None if flag in given else env.get(key) for flag, key in mapping.items()}
        keys = keys_for_dependencies(request, dry_run, python == sys.executable, mapping) | evaluation.keys()
        env |= keys
        const |= {key: value for key, value in keys.items() if key in const}
        i["run_script_input"][_RUN_KEY] = self._enter(i, request, evaluation, sweep, dry_run, callers)
        return {"return": 0}

    def _check_input(self, i: Answer) -> None:
        """Refuse what cannot work, before anything is made of it. Raises CmxError."""
        framework, env, given, meta = self.framework, i["env"], i["input"], i["meta"]
        if i["os_info"]["platform"] == "windows":
            raise UnsupportedError("Windows is not supported; use Linux, or WSL 2")
        if env.get(folder := framework.key("OUTDIRNAME")):
            raise RequestError(f"{folder} (--outdirname) has no effect here; use --output_dir for the engine's folder")
        if not given.get("recursion"):
            check_flags(framework, given, meta["input_mapping"], tuple(meta["variations"]))
        const = i["run_script_input"]["const"]
        check_exports(framework, given, env, const, meta["input_mapping"], internal_keys())
        check_value(framework.name, "the folder for temporary files (TMPDIR)", tempfile.gettempdir())

    def _enter(
        self,
        i: Answer,
        request: BuildRequest,
        evaluation: ScriptEvaluation,
        sweep: str,
        dry_run: bool,
        callers: dict[str, Any],
    ) -> _Run:
        """Move to a private folder: the temporary files would overwrite those of a second run in the same folder."""
        scratch = tempfile.mkdtemp(prefix="cmx4trt-")
        run = _Run(
            request, evaluation, sweep, dry_run, os.getcwd(), scratch, Interruptions(self.framework.name), callers
        )
        _runs[scratch] = run
        os.chdir(scratch)
        if self.framework.typed(i["input"]):
            run.interruptions.enter()
        return run

    def _preprocess(self, i: Answer) -> Answer:
        env = i["env"]
        run: _Run = i["run_script_input"][_RUN_KEY]
        if i["input"].get("h"):
            _leave(run)
            return {"return": 0, "skip": True}
        request = run.request if run.dry_run else with_dependencies(self.framework, run.request, env)
        request_file = os.path.join(run.scratch, "request.json")
        with open(request_file, "w", encoding="utf-8") as file:
            json.dump(request.to_dict(), file)
        env |= {
            "CMX4TRT_REQUEST_FILE": request_file,
            "CMX4TRT_RESULT_FILE": os.path.join(run.scratch, "result.json"),
            "CMX4TRT_WORKER_DRY_RUN": "yes" if run.dry_run else "",
            "CMX4TRT_WORKER_NEW": "yes" if i["input"].get("new") else "",
            "CMX4TRT_WORKER_EVALUATION": run.evaluation.worker_file(self.framework, run.scratch, env, run.dry_run),
            "CMX4TRT_WORKER_SWEEP": run.sweep,
            "CMX4TRT_WORKER_STORE": run.request.output_dir if run.sweep and "output_dir" in i["input"] else "",
            "CMX4TRT_PYTHON": env[self.framework.key("PYTHON_BIN_WITH_PATH")],
            "CMX4TRT_PYTHONPATH": root_of_clone(),
            "CMX4TRT_RUN_SCRIPT": os.path.join(os.path.dirname(os.path.realpath(__file__)), _RUN_SCRIPT),
        }
        run.interruptions.leave_interrupt_to_worker()
        return {"return": 0}

    def _postprocess(self, i: Answer) -> Answer:
        env = i["env"]
        run: _Run = i["run_script_input"][_RUN_KEY]
        status = int(env.get("CMX4TRT_EXIT_STATUS") or EXIT_UNFORESEEN)
        result = read_result(env["CMX4TRT_RESULT_FILE"], status)
        _leave(run)
        # CM now deletes tmp-run.sh and its like in the user's folder, where it has left none; the user's own must stay.
        i["run_script_input"]["customize_common_input"]["input"]["dirty"] = True
        if result.get("error") or status:
            code = int(result.get("exit_code") or status or EXIT_UNFORESEEN)
            return self._failed(i, code, str(result.get("error") or f"exit status {status}"))
        kinds = ((EXPORT_PREFIX, "exports"), (RESULT_PREFIX, "result_exports"), (SWEEP_PREFIX, "sweep_exports"))
        for prefix, name in kinds:
            for key, value in result.get(name, {}).items():
                env[self.framework.key(prefix + key)] = str(value)
        if i["input"].get("recursion"):
            _give_back(env, i["run_script_input"]["const"], run.callers)
        return {"return": 0}


def _give_back(env: Answer, const: Answer, callers: Mapping[str, Any]) -> None:
    """Leave our inputs as the calling script had them: the next engine it asks for is not to inherit this one's folder."""
    for key, value in callers.items():
        const.pop(key, None)
        if value is None:
            env.pop(key, None)
        else:
            env[key] = value


def _check_early(request: BuildRequest, own_python: bool) -> None:
    """What the worker would refuse at once is refused before dependencies fetch gigabytes for it. Raises CmxError."""
    from cmx4trt.backends import builder_for
    from cmx4trt.pipeline.plan import check_request
    from cmx4trt.pipeline.source import source_of_request

    check_request(request)
    if request.model is not None:
        source_of_request(request)
    if request.device == "cuda":
        _check_driver()
    elif own_python:  # no dependency installs this builder
        builder_for(request.builder).version()


def _check_driver() -> None:
    """Before CM installs CUDA and system packages for a GPU that is not there. Raises DeviceError."""
    from cmx4trt.devices.driver import why_no_driver

    if missing := why_no_driver():
        raise DeviceError(
            f"device cuda needs an NVIDIA GPU and its driver on this machine ({missing}); use _cpu, which needs no GPU"
        )


def _leave(run: _Run) -> None:
    """Back to the user's folder, without a trace."""
    if _runs.pop(run.scratch, None) is None:
        return
    os.chdir(run.home)
    shutil.rmtree(run.scratch, ignore_errors=True)
    run.interruptions.leave()


@atexit.register
def _leave_all() -> None:
    for run in list(_runs.values()):
        shutil.rmtree(run.scratch, ignore_errors=True)
