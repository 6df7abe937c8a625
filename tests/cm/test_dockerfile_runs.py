"""The Dockerfile that CM writes for ``_cpu``, step by step, in a clean Debian without docker, and then the container's command.

tests/data/container/run_dockerfile.py does it in a mount namespace of its own. It downloads some 300 MB.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNNER = ROOT / "tests" / "data" / "container" / "run_dockerfile.py"
NO_DEBIAN = 77
"""How the runner ends where debootstrap cannot make a root file system."""
MEMORY_KIB = 4 * 2**20
USER = 1000
"""The tests run as root, most users do not: their numbers go into the image."""
PROXY = re.compile("(https?|no|all)_proxy", re.I)
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries", "cert", "compile")
"""What pip needs to reach its index from inside, where this machine has it, and that it need not compile what it installs."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: debootstrap, chroot"),
    pytest.mark.skipif(
        shutil.which("debootstrap") is None, reason="debootstrap is not installed (apt install debootstrap)"
    ),
    pytest.mark.skipif(
        subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0,
        reason="this machine allows no mount namespaces",
    ),
]


def free_memory() -> int:
    """KiB that new processes can have."""
    found = re.search(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())
    return int(found[1]) if found else 0


def pip_environment(files: dict[str, str]) -> dict[str, str]:
    """This machine's proxies and settings of pip; certificates go into ``files`` (path here -> path inside)."""
    kept = {k: v for k, v in os.environ.items() if PROXY.fullmatch(k)}
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    for name, value in re.findall(r"^[\w:]+\.([\w-]+)='(.*)'$", listed.stdout, re.M):
        if name not in PIP_SETTINGS or "file:" in value:
            continue
        if name == "cert":
            files[value] = value = "/etc/host/certificates.crt"
        kept[f"PIP_{name.replace('-', '_').upper()}"] = value
    return kept


def pip_reaches_an_index(folder: Path) -> bool:
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder / "probe"), "wheel"]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


@pytest.fixture
def clone(source: Path, tmp_path: Path) -> Path:
    """A clone to write into."""
    return shutil.copytree(source, tmp_path / "clone", symlinks=True)


@pytest.mark.timeout(600)
def test_image_of_a_clone_builds_an_engine(docker: Any, clone: Path, tmp_path: Path, block_of_page: Any) -> None:
    if free_memory() < MEMORY_KIB:
        pytest.skip(f"needs {MEMORY_KIB >> 20} GiB of free memory for the root file system")
    if not pip_reaches_an_index(tmp_path):
        pytest.skip("pip reaches no index of packages here")
    proxies = {k: v for k, v in os.environ.items() if PROXY.fullmatch(k)}
    environment = {**docker.cm.environment, **proxies, "DOCKER_RECORD": str(docker.record)}
    lines = block_of_page(
        "docs/how-to/docker.md", f"{Path(__file__).relative_to(ROOT)}::test_image_of_a_clone_builds_an_engine"
    )
    subprocess.run(["bash", "-euc", lines], cwd=clone, env=environment, check=True, stdin=subprocess.DEVNULL)

    [build], [run] = docker.calls("build"), docker.calls("run")
    arguments = dict(build[i + 1].split("=", 1) for i, word in enumerate(build) if word == "--build-arg")
    mounts = [run[i + 1].split(":") for i, word in enumerate(run) if word == "-v"]
    assert mounts == [[str(clone), "/cm-mount/current"]]
    published = tmp_path / "published"
    published.mkdir()
    os.chown(published, USER, USER)
    files: dict[str, str] = {}
    root = tmp_path / "root"
    root.mkdir()
    job = {
        "root": str(root),
        "suite": "bookworm",
        "dockerfile": build[build.index("-f") + 1],
        "context": str(Path(build[build.index("-f") + 1]).parent),
        "arguments": {name: value.replace(str(os.getuid()), str(USER)) for name, value in arguments.items()},
        "host_environment": pip_environment(files),
        "host_files": files,
        "mounts": [[str(published), "/cm-mount/current"]],
        "commands": [run[run.index("bash") :], ["python3", "-m", "pip", "list", "--format=freeze"]],
        "outer_namespace": os.readlink("/proc/self/ns/mnt"),
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, str(RUNNER), str(tmp_path / "job.json")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    assert list(root.iterdir()) == []
    if done.returncode == NO_DEBIAN:
        pytest.skip("debootstrap could not make a Debian root file system here (no way to an archive?)")
    assert done.returncode == 0, done.stdout[-3000:]
    check_engine(published)
    check_versions(done.stdout, Path(job["context"]) / "pip" / "constraints.txt")


def check_engine(published: Path) -> None:
    """The container's user made an engine where its caller finds it, and it was verified."""
    [plan] = published.rglob("*.plan")
    assert plan.stat().st_uid == USER
    manifest = json.loads(plan.with_suffix(".json").read_text())
    assert manifest["verification"]["verdict"] == "passed"
    assert manifest["engine"]["bytes"] == plan.stat().st_size


def check_versions(output: str, constraints: Path) -> None:
    """Whatever this environment and the image both have is of one version."""
    here, inside = (dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.M)) for text in (constraints.read_text(), output))
    both = set(here) & set(inside) - {"pip", "setuptools"}  # those two come with Debian's venv
    assert both >= {"cmind", "cmx4mlops", "numpy", "onnxruntime", "tensorrt-rtx-cu13", "wheel"} & set(here)
    assert {name: inside[name] for name in both} == {name: here[name] for name in both}
    assert "cmx4trt" in inside
