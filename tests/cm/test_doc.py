"""CM's own actions that write beside the script leave the clone as it is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TAGS = "generate engine mlperf inference nvidia"


def test_cm_doc_spares_the_readme(cm: Any, tmp_path: Path) -> None:
    """CM would move README.md to README-extra.md, where there is none, and write one of its own."""
    script = tmp_path / "home" / "repos" / "local" / "script" / "clone"
    script.mkdir(parents=True)
    for name in ("_cm.yaml", "customize.py", "run.sh", "README.md", "README-extra.md"):
        shutil.copy(ROOT / name, script)
    made = type(cm)(tmp_path / "home", {**cm.environment, "CM_REPOS": str(tmp_path / "home")})
    done = made.command("cm", "doc", "script", TAGS, cwd=tmp_path)
    assert "can't rename" in done.stdout
    for name in ("README.md", "README-extra.md"):
        assert (script / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.parametrize(
    ("tags", "flag"),
    [
        ("_random-weights", "--fake_run"),
        ("_random-weights", "--prepare"),
        ("_random-weights --verify=no --report=no", "--print_deps"),
        ("_retinanet _random-weights.7 _int8", "--fake_run"),
    ],
)
def test_random_weights_download_nothing(cm: Any, folder: Path, flag: str, tags: str) -> None:
    """Without hooks, which a fake run calls none of, the variation itself says that neither model nor images are needed."""
    variations, *flags = tags.split(" --")
    done = cm.cmr(variations, *(f"--{one}" for one in flags), flag, "--quiet", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "ml-model" not in done.stdout
    assert "dataset" not in done.stdout
