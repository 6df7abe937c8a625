"""MLC's meta.yaml of the script, written from ``_cm.yaml``. Standard library only.

``CMX4TRT_WRITE_DOCS=1 python -m pytest tests/mlc/test_mlc_meta.py`` writes the file anew.
"""

from __future__ import annotations

import re

from cmx4trt import __version__
from cmx4trt.base.install import release

_HEAD = (
    "# Written from _cm.yaml by cmx4trt/mlc/meta.py: CMX4TRT_WRITE_DOCS=1 python -m pytest tests/mlc/test_mlc_meta.py\n"
)
_CMR = re.compile(r'cmr\s+"generate engine mlperf inference nvidia\s+(.*?)"', re.DOTALL)
_ONLY_CM = re.compile(r"^(min_cm_version|repo_to_report_errors): .*\n", re.MULTILINE)
_REPLACED = (
    (r"\bCM_", "MLC_"),
    (r"\bsys-utils-cm\b", "sys-utils-mlc"),
    (r"\bCM's\b", "MLC's"),
)
_DOCKER = re.compile(r"^docker:\n.*?(?=^variation_groups_order:)", re.MULTILINE | re.DOTALL)
_IMAGES = re.compile(r"^(?P<head>  (?P<device>cpu|cuda):\n(?:    .*\n)*?    docker:\n)", re.MULTILINE)
_PIP = {
    "cpu": ("rtx,hopper,bench,mlc", ""),
    "cuda": ("cuda,hopper,bench,mlc", "        MLC_DOCKER_USE_VIRTUAL_PYTHON: 'no'\n"),
}
"""Device -> extras of the package in its image, further settings: NVIDIA's image has TensorRT outside a virtual environment."""


def mlc_meta(text: str) -> str:
    """MLC's meta.yaml, from the text of ``_cm.yaml``: other prefixes and names, the same variations, flags and rows."""
    text = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)
    text = _CMR.sub(lambda found: "mlcr generate,engine,mlperf,inference,nvidia," + ",".join(found[1].split()), text)
    text = _IMAGES.sub(_image, _DOCKER.sub(_docker, _ONLY_CM.sub("", text)))
    for pattern, replacement in _REPLACED:
        text = re.sub(pattern, replacement, text)
    return _HEAD + re.sub(r"\n{3,}", "\n\n", text)


def _docker(section: re.Match[str]) -> str:
    """What MLC's docker action reads. Unlike CM's it mounts only what ``mounts`` lists, by environment keys, and only what
    ``default_env`` sets reaches both the Dockerfile and the container.
    """
    inputs = re.findall(r"^  - (\w+)\n", section[0].split("input_paths:", 1)[1], re.MULTILINE)
    mapping = dict(re.findall(r"^  (\w+): (\w+)$", section.string[: section.start()], re.MULTILINE))
    keys = [mapping[name] for name in inputs]
    lines = [
        "docker:",
        "  image_name: cmx4trt",
        # MLC pulls its own scripts, then runs this: pip has installed the package before.
        "  mlc_repos: cmx4trt mlc-setup",
        "  skip_mlc_sys_upgrade: 'yes'",
        "  default_env:",
        "    MLC_DOCKER_FAKE_DEPS: 'yes'",
        f"    MLC_DOCKER_IMAGE_TAG_EXTRA: -{__version__}",
        "    MLC_DOCKER_NOT_PULL_UPDATE: 'yes'",
        "    MLC_MLPERF_OUTPUT_DIR: engines",
        "  mounts:",
        *(f"  - ${{{{ {key} }}}}:${{{{ {key} }}}}" for key in keys),
        f"  skip_input_for_fake_run: [mlc_run_cmd, {', '.join(inputs)}]",
        "",
        f"file_path_env_keys: [{', '.join(keys)}]",
        "",
    ]
    return "\n".join([*lines, ""])


def _image(found: re.Match[str]) -> str:
    """The head of a variation's docker settings, with what pip installs in its image.

    MLCommons' script replaces flags that lack --break-system-packages, and with them the package.
    """
    extras, more = _PIP[found["device"]]
    flags = f"--no-cache-dir --break-system-packages '{release(extras)}'"
    return f"{found['head']}      default_env:\n        MLC_DOCKER_PIP_INSTALL_EXTRA_FLAGS: {flags}\n{more}"
