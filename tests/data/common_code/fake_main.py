"""The main program of a stand-in for NVIDIA's code; the fixture copies it into a checkout of one generation.

Parses its flags as that generation does, fails as it does, and writes engines where it does. Where a test asks for trouble,
``behaviour.json`` in the checkout says which. What was understood of the flags goes to ``parsed.json``.
"""

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

BEHAVIOUR = json.loads(Path("behaviour.json").read_text())
GENERATION = BEHAVIOUR["generation"]
OUTCOME = BEHAVIOUR["outcome"]
INTEGERS = GENERATION in ("r2.1", "r3.0", "r4.0")
WORKLOADS = GENERATION in ("r5.1", "r6.0")
MODELS = {"resnet50": "resnet50", "resnet": "resnet50", "retinanet": "retinanet", "ssd-retinanet": "retinanet"}
SCENARIOS = {"offline": "Offline", "server": "Server", "singlestream": "SingleStream", "multistream": "MultiStream"}
COMPONENTS = re.compile(r".+:\d+(?:,.+:\d+)*")


def log(level, text):
    sys.stderr.write(f"[2026-01-01 00:00:00,000 main.py:229 {level}] {text}\n")
    sys.stderr.flush()


def components_in_type(text):
    if not COMPONENTS.fullmatch(text):
        log("ERROR", f"Batch size {text} is not in the format <component>:<batch size>")
        raise ValueError("Invalid batch size format.")
    return text


def parse():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--action")
    parser.add_argument("--benchmarks")
    parser.add_argument("--scenarios")
    parser.add_argument("--gpu_batch_size", type=int if INTEGERS else components_in_type if WORKLOADS else str)
    for name in ("gpu_copy_streams", "workspace_size"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--precision", choices=("int8", "fp16", "fp32"))
    parser.add_argument("--input_dtype", choices=("int8", "fp16", "fp32"))
    parser.add_argument("--input_format", choices=("linear", "chw4", "dhwc8", "cdhw32"))
    if WORKLOADS:
        parser.add_argument("--device_types", default="gpu")
    else:
        parser.add_argument("--gpu_only", action="store_true")
    known, _ = parser.parse_known_args()  # a misspelt flag is ignored without a word
    if not INTEGERS and not WORKLOADS and not COMPONENTS.fullmatch(known.gpu_batch_size or ""):
        raise ValueError(
            "Specifying gpu_batch_size or dla_batch_size in RUN_ARGs must follow the format of "
            "component1:component_bs1,component2:component_bs2,..."
        )
    return known


def import_what_it_imports():
    """Modules that the real program imports first, whatever it is to do."""
    if WORKLOADS:
        import mlperf_loadgen  # noqa: F401
    elif not any(os.path.isfile(f"build/inference/tools/submission/{n}") for n in BEHAVIOUR["checkers"]):
        raise ModuleNotFoundError("No module named 'submission_checker'")


def load_inputs(model, precision):
    """What a builder opens before it builds."""
    for path in BEHAVIOUR["plugins"] if model == "retinanet" else ():
        if not os.path.isfile(path):
            raise OSError(f"{path}: cannot open shared object file: No such file or directory")
    Path("build", BEHAVIOUR["models"][model]).read_bytes()
    if model == "resnet50" and precision == "int8":
        for line in Path("data_maps/imagenet/cal_map.txt").read_text().splitlines():
            Path(f"build/preprocessed_data/imagenet/ResNet50/fp32/{line.split()[0]}.npy").read_bytes()


def engine_path(system, model, scenario, arguments):
    batch = arguments.gpu_batch_size
    if INTEGERS:
        if GENERATION in ("r2.1", "r3.0") and scenario == "SingleStream":
            batch = 1
        name = f"{model}-{scenario}-gpu-b{batch}-{arguments.precision}.lwis_k_99_MaxP.plan"
    else:
        component, batch = batch.split(":")
        name = f"{model}-{scenario}-gpu-{component}-b{batch}-{arguments.precision}.lwis_k_99_MaxP.plan"
        if WORKLOADS:
            return (
                f"build/engines/{system}/{scenario}/{model}/gpu-{component}-{arguments.precision}-b{batch}.cp990.plan"
            )
    return f"build/engines/{system}/{model}/{scenario}/{name}"


def build(system, model, scenario, arguments):
    load_inputs(model, arguments.precision)
    if OUTCOME == "build failure":
        sys.stderr.write("[TRT] [E] 2: [virtualMemoryBuffer.cpp::resizePhysical::145] OutOfMemory\n")
        raise AttributeError("'NoneType' object has no attribute 'nbytes'")
    path = engine_path(system, model, scenario, arguments)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if OUTCOME == "nothing":
        return
    with open(path, "wb") as stream:
        if OUTCOME == "0-byte plan":
            raise TypeError("a bytes-like object is required, not 'NoneType'")
        if OUTCOME != "0-byte plan, status 0":
            stream.write(f"engine of {GENERATION} with {arguments.workspace_size} bytes".encode())
    if OUTCOME == "left running" and os.fork() == 0:  # a build that was given up, and holds the output open
        time.sleep(600)
    if OUTCOME == "slow":
        sys.stderr.write("building for long\n")
        sys.stderr.flush()
        time.sleep(600)


def generate(arguments, system):
    Path("parsed.json").write_text(json.dumps(vars(arguments)))
    for benchmark in arguments.benchmarks.split(","):
        if benchmark.lower() not in MODELS:
            raise RuntimeError(f"'{benchmark}' is not a valid benchmark name.")
        model = MODELS[benchmark.lower()]
        for scenario in (SCENARIOS[s.lower()] for s in arguments.scenarios.split(",")):
            if OUTCOME == "no config":
                if WORKLOADS:
                    raise ModuleNotFoundError(f"No module named 'configs.{system}.{scenario}.{model}'")
                log(
                    "WARNING",
                    f"No registered config for {model}.{scenario}.{system} for WorkloadSetting(lwis, k_99, MaxP)",
                )
                continue
            try:
                build(system, model, scenario, arguments)
            except Exception:
                if WORKLOADS:
                    raise
                import traceback

                traceback.print_exc()
                raise RuntimeError("Building engines failed!") from None
            log("INFO", f"Finished building engines for {model} benchmark in {scenario} scenario.")
    print(f"Time taken to generate engines: {0.1} seconds")


def main():
    from code.common.systems import system_list

    import_what_it_imports()
    if WORKLOADS:
        generate(parse(), system_list.DETECTED_SYSTEM.extras["id"])
        return
    if GENERATION == "r5.0":
        system = system_list.DETECTED_SYSTEM.extras.get("id")
    else:
        system = system_list.MATCHED_SYSTEM and system_list.DETECTED_SYSTEM.get_id()
    if system is None:
        log("INFO", "Detected system did not match any known systems. Exiting. SystemConfiguration(...)")
        return  # exit status 0, no engine
    generate(parse(), system)


if __name__ == "__main__":
    main()
