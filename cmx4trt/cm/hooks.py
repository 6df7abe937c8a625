"""The CM edge: what happens between a ``cmr`` line and ``python -m cmx4trt build``, and back.

The three hooks run inside CM's own process, so: standard library only, nothing heavy, no exception may escape. An error
is returned as ``{'return': exit code, 'error': one sentence}``; CM prints it after "CM error:" and adds an exclamation
mark. Facts about CM that shape this module: dependencies run between ``predeps`` and ``preprocess``; every ``tmp-*``
file of CM goes to the current folder; mapped inputs are constants and win over the environment.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cmx4trt
from cmx4trt.cm.dependencies import keys_for_dependencies, with_dependencies
from cmx4trt.cm.input import check_exports, check_flags, check_value, option_values, with_words
from cmx4trt.cm.proof import RESULT_PREFIX, CmProof, proof_of_environment
from cmx4trt.damage import parse_json, printable
from cmx4trt.errors import (
    EXIT_INTERRUPTED,
    EXIT_UNFORESEEN,
    OUT_OF_MEMORY,
    CmxError,
    DeviceError,
    RequestError,
    UnsupportedError,
)
from cmx4trt.request import BuildRequest
from cmx4trt.telemetry import switch_off
from cmx4trt.values import parse_bool

Answer = dict[str, Any]
"""What a hook returns to CM: at least 'return', and 'error' when that is not 0."""

EXPORT_PREFIX = "CM_MLPERF_ENGINE_"
_RUN_KEY = "cmx4trt_run"


@dataclass(slots=True)
class _Run:
    """One run of the script, from predeps to postprocess."""

    request: BuildRequest
    proof: CmProof
    dry_run: bool
    home: str
    """The folder the user called from."""
    scratch: str
    """The private folder that CM's temporary files go to meanwhile."""
    interrupt_handler: Any = None


_runs: dict[str, _Run] = {}
"""Runs not yet left, by scratch folder: what is still here at exit failed in a dependency, where CM calls no hook."""


def _guarded(hook: Callable[[Answer], Answer]) -> Callable[[Answer], Answer]:
    def guarded(i: Answer) -> Answer:
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
            text = f"unforeseen {type(error).__name__} in {hook.__name__}: {error}"
        run = i["run_script_input"].get(_RUN_KEY)
        if run is not None:
            _leave(run)
        return {"return": code, "error": printable(" ".join(text.split())).rstrip(".!?")}

    return guarded


@_guarded
def predeps(i: Answer) -> Answer:
    """Check everything the user said, then move to a private folder, before CM starts its first shell."""
    switch_off()  # for the scripts we depend on, too
    env, given, meta = i["env"], i["input"], i["meta"]
    const, mapping = i["run_script_input"]["const"], meta["input_mapping"]
    if given.get("h") and given.get("cmd"):
        from cmx4trt.cm.help import end_with_help

        end_with_help(meta)
    if i["os_info"]["platform"] == "windows":
        raise UnsupportedError("Windows is not supported; use Linux, or WSL 2")
    if env.get("CM_OUTDIRNAME"):
        raise RequestError("CM_OUTDIRNAME (--outdirname) has no effect here; the folder of the engine is --output_dir")
    if not given.get("recursion"):
        check_flags(given, mapping, tuple(meta["variations"]))
    check_exports(given, env, const, mapping)
    check_value("the folder for temporary files (TMPDIR)", tempfile.gettempdir())
    variations = tuple(i["variation_tags"])
    merged = with_words({**env, **const}, mapping)  # CM lets constants, which flags are, win only after this hook
    request = BuildRequest.from_values(option_values(merged, given, mapping, variations))
    proof = proof_of_environment(merged, given, mapping, request)
    dry_run = parse_bool("dry_run", merged.get(mapping["dry_run"], False)) or bool(given.get("h"))
    python = env.setdefault("CM_PYTHON_BIN_WITH_PATH", sys.executable)
    if not dry_run:
        _check_early(request, python == sys.executable)
    keys = keys_for_dependencies(request, dry_run, python == sys.executable, mapping) | proof.keys()
    for key, value in keys.items():
        env[key] = value
        if key in const:
            const[key] = value
    i["run_script_input"][_RUN_KEY] = _enter(request, proof, dry_run, typed=bool(given.get("cmd")))
    return {"return": 0}


def _check_early(request: BuildRequest, own_python: bool) -> None:
    """What the worker would refuse at once is refused before dependencies fetch gigabytes for it. Raises CmxError."""
    from cmx4trt.backends import builder_for
    from cmx4trt.pipeline import check_request
    from cmx4trt.source import source_of_request

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


@_guarded
def preprocess(i: Answer) -> Answer:
    """Write the request file for run.sh; the model is now known."""
    env = i["env"]
    run: _Run = i["run_script_input"][_RUN_KEY]
    if i["input"].get("h"):
        _leave(run)
        return {"return": 0, "skip": True}
    request = run.request if run.dry_run else with_dependencies(run.request, env)
    request_file = os.path.join(run.scratch, "request.json")
    with open(request_file, "w", encoding="utf-8") as file:
        file.write(request.to_json())
    env["CMX4TRT_REQUEST_FILE"] = request_file
    env["CMX4TRT_RESULT_FILE"] = os.path.join(run.scratch, "result.json")
    env["CMX4TRT_WORKER_FLAGS"] = "--dry_run" if run.dry_run else run.proof.worker_flag(run.scratch, env)
    env["CMX4TRT_PYTHONPATH"] = _root_of_clone()
    if run.interrupt_handler is not None:
        # The shells that CM starts around the worker inherit this and survive Ctrl-C; the worker listens again.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return {"return": 0}


def _root_of_clone() -> str:
    """The folder that makes this package importable for the worker; empty for an installed one, which already is."""
    root = os.path.dirname(os.path.dirname(os.path.realpath(cmx4trt.__file__)))
    return root if os.path.isfile(os.path.join(root, "_cm.yaml")) else ""


@_guarded
def postprocess(i: Answer) -> Answer:
    """Export what the worker's result file says, or return its error."""
    env = i["env"]
    run: _Run = i["run_script_input"][_RUN_KEY]
    status = int(env.get("CMX4TRT_EXIT_STATUS") or EXIT_UNFORESEEN)
    result = _read_result(env["CMX4TRT_RESULT_FILE"], status)
    _leave(run)
    # CM now deletes tmp-run.sh and its like in the user's folder, where it has left none; the user's own must stay.
    i["run_script_input"]["customize_common_input"]["input"]["dirty"] = True
    if result.get("error") or status:
        code = int(result.get("exit_code") or status or EXIT_UNFORESEEN)
        return {"return": code, "error": str(result.get("error") or f"exit status {status}").rstrip(".!?")}
    for key, value in result.get("exports", {}).items():
        env[EXPORT_PREFIX + key] = str(value)
    for key, value in result.get("result_exports", {}).items():
        env[RESULT_PREFIX + key] = str(value)
    return {"return": 0}


def _read_result(path: str, status: int) -> Answer:
    try:
        with open(path, encoding="utf-8") as file:
            result: Answer = parse_json(file.read())
        if isinstance(result, dict):
            return result
    except (OSError, ValueError):
        pass
    return {"error": _how_it_ended(status), "exit_code": status or EXIT_UNFORESEEN}


def _how_it_ended(status: int) -> str:
    """One sentence for a worker that could not write its result; ``status`` as the shell sees it (128 + signal)."""
    if status == EXIT_INTERRUPTED:
        return "interrupted"
    if status <= 128:
        return f"the build process ended with exit status {status} and without a result; its own words are above"
    number = status - 128
    name = signal.Signals(number).name if number in {s.value for s in signal.Signals} else "unknown"
    hint = ", as the system does when memory runs out" if number == signal.SIGKILL else ""
    return f"the build process was ended by signal {number} ({name}){hint}; nothing was published"


def _enter(request: BuildRequest, proof: CmProof, dry_run: bool, typed: bool) -> _Run:
    """Move to a private folder: CM's temporary files would overwrite those of a second run in the same folder."""
    scratch = tempfile.mkdtemp(prefix="cmx4trt-")
    run = _Run(request, proof, dry_run, os.getcwd(), scratch)
    _runs[scratch] = run
    os.chdir(scratch)
    main = threading.current_thread() is threading.main_thread()
    if typed and main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        run.interrupt_handler = signal.signal(signal.SIGINT, _end_at_interrupt)
    return run


def _end_at_interrupt(*_: object) -> None:
    """Ctrl-C between the hooks: CM would answer with a traceback."""
    sys.stderr.write("\nCM error: interrupted!\n")
    raise SystemExit(EXIT_INTERRUPTED)


def _leave(run: _Run) -> None:
    """Back to the user's folder, without a trace."""
    if _runs.pop(run.scratch, None) is None:
        return
    os.chdir(run.home)
    shutil.rmtree(run.scratch, ignore_errors=True)
    if run.interrupt_handler is not None:
        signal.signal(signal.SIGINT, run.interrupt_handler)


@atexit.register
def _leave_all() -> None:
    for run in list(_runs.values()):
        shutil.rmtree(run.scratch, ignore_errors=True)
