"""MLC's meta.yaml of the script, written from ``_cm.yaml``. Standard library only.

``CMX4TRT_WRITE_DOCS=1 python -m pytest tests/mlc/test_mlc_meta.py`` writes the file anew.
"""

from __future__ import annotations

import re

_HEAD = (
    "# Written from _cm.yaml by cmx4trt/mlc/meta.py: CMX4TRT_WRITE_DOCS=1 python -m pytest tests/mlc/test_mlc_meta.py\n"
)
_CMR = re.compile(r'cmr\s+"generate engine mlperf inference nvidia\s+(.*?)"', re.DOTALL)
_ONLY_CM = re.compile(r"^(min_cm_version|repo_to_report_errors): .*\n", re.MULTILINE)
_CM_REPO = re.compile(r"^  cm_repo: .*\n  skip_cm_sys_upgrade: ", re.MULTILINE)
_MLC_REPO = "  mlc_repos: cmx4trt mlc-setup\n  skip_mlc_sys_upgrade: "
"""MLC pulls its own scripts, then runs this: pip has installed the package before."""
_REPLACED = (
    (r"\bCM_", "MLC_"),
    (r"\bsys-utils-cm\b", "sys-utils-mlc"),
    (r"\bCM's\b", "MLC's"),
    (r",bench\]==(\S+)' cmind==\S+ cmx4mlops==\S+", r",bench,mlc]==\1'"),
)


def mlc_meta(text: str) -> str:
    """MLC's meta.yaml, from the text of ``_cm.yaml``: other prefixes and names, the same variations, flags and rows."""
    text = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)
    text = _CMR.sub(lambda found: "mlcr generate,engine,mlperf,inference,nvidia," + ",".join(found[1].split()), text)
    text = _CM_REPO.sub(_MLC_REPO, _ONLY_CM.sub("", text))
    for pattern, replacement in _REPLACED:
        text = re.sub(pattern, replacement, text)
    return _HEAD + re.sub(r"\n{3,}", "\n\n", text)
