# ruff: noqa: E501
"""docs/reference/common-code.md is made from the builder's table; CMX4TRT_WRITE_DOCS=1 writes it anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cmx4trt.backends.common_code.releases import NMS_WORKSPACE, RELEASES, Release
from cmx4trt.requests.build import BuildRequest

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "common-code.md"
SYSTEM = "<system id>"
EXAMPLES = {"resnet50": {"batch_size": 2048}, "retinanet": {"batch_size": 16, "workspace_size": "16GiB"}}

HEAD = """# NVIDIA's common code, release by release

<!-- Made from the table in cmx4trt/backends/common_code/releases.py; do not edit by hand:
     CMX4TRT_WRITE_DOCS=1 python -m pytest tests/unit/backends/common_code/test_common_code_page.py -->

The builder `common-code` runs `make generate_engines` in `closed/NVIDIA` of an MLPerf Inference results repository. It finds out
the release from the files there, writes the flags below, and takes over the engine only if make ended with status 0, the engine is
there, is not empty, was written by this run, and the log holds none of the lines that mean failure.

All of this was read from the releases' sources and tested on stand-ins that parse flags and fail as each release does. None of it
was run with NVIDIA's own code: see [hardware](hardware.md).

## Differences

"""

OUTCOMES = """
## What goes wrong, and what you read

| What | Exit code | The sentence says |
|---|---|---|
| the system is not in the release's list (up to r5.0 its own exit status is 0) | 9 | that it does not know this system; use `_tensorrt`, or describe the system to it |
| no configuration for system and scenario (up to r5.0 exit status 0) | 10 | which is missing; another scenario, or `_tensorrt` |
| the build fails | 6 | the last telling line of its log, and where the log is |
| an empty engine is left, or none, or an old one | 6 | so, and where the log is |
| the model file is missing, or is not NVIDIA's export of RetinaNet | 3 | which file, and what makes it |
| plugins, a clone of mlcommons/inference, LoadGen are missing | 5 | which, and the command that provides it |
| calibration arrays, cache or list are missing | 8 | how many, the first, and the command that makes them |
| a precision that the release cannot build | 10 | which it can |
| workspace too small for RetinaNet's plugin | 2 | the least, and the flag |
| workspace above the GPU's free memory; no GPU or driver | 9 | the figures; what to use instead |

The log is kept beside the engine's place in the output folder (`….common-code.log`). The engine is published with a manifest like
any other; it records release, commit, a digest of the files that take part, the system id, the flags and the GPU. It is not
verified by this package (NVIDIA's code builds its own graph): its harness measures the accuracy.
"""


def request_for(release: Release, network: str) -> BuildRequest:
    return BuildRequest.from_values({"device": "cuda", "network": network, "copy_streams": 2, **EXAMPLES[network]})


def differences() -> Iterator[str]:
    yield "| | " + " | ".join(r.name for r in RELEASES) + " |"
    yield "|---" * (len(RELEASES) + 1) + "|"
    rows = {
        "batch": lambda r: "`model:n`" if r.component_batches else "`n`",
        "GPU only": lambda r: f"`{r.gpu_flag}`",
        "resnet50 in": lambda r: ", ".join(r.precisions["resnet50"]),
        "retinanet in": lambda r: ", ".join(r.precisions["retinanet"]),
        "least workspace for retinanet, bytes": lambda r: str(r.workspaces.get("retinanet") or "none"),
        "configuration file must exist": lambda r: "yes" if r.workload_configs else "no",
        "LoadGen's Python module": lambda r: "yes" if r.needs_loadgen else "no",
        "mlcommons/inference in": lambda r: f"`{r.inference_source}`",
    }
    for title, value in rows.items():
        yield f"| {title} | " + " | ".join(value(r) for r in RELEASES) + " |"


def page() -> str:
    lines = [HEAD.rstrip("\n"), "", *differences(), ""]
    lines.append(f"The plugin of RetinaNet needs {NMS_WORKSPACE / 1e9} GB; sizes of NVIDIA's flag are in bytes.")
    for network in EXAMPLES:
        lines += ["", f"## {network}"]
        for release in RELEASES:
            request = request_for(release, network)
            lines += [
                "",
                f"### {release.name}",
                "",
                f"Model file, below the scratch space: `{release.models[network]}`",
                "",
                "```",
                f'make generate_engines RUN_ARGS="{" ".join(release.flags(request))}"',
                "```",
                "",
                f"Engine: `{release.engine(request, SYSTEM)}`",
            ]
            if network == "retinanet":
                plugins = ", ".join(f"`{plugin}`" for plugin in release.plugins["retinanet"])
                lines += ["", f"Plugins (`make build_plugins`): {plugins}"]
    return "\n".join(lines) + "\n" + OUTCOMES


def test_the_page_is_what_the_table_says() -> None:
    if os.environ.get("CMX4TRT_WRITE_DOCS"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page()
