"""Builds and runs a Dockerfile without docker: RUN steps in a root file system made by debootstrap, then commands.

    unshare --mount --propagation private python run_dockerfile.py JOB

JOB is a JSON file: {"root": empty folder, "suite": Debian release, "dockerfile": path, "context": folder of COPY,
"arguments": {name: value} of --build-arg, "host_environment": variables to add to every step (proxies, pip's settings),
"host_files": {path here: path inside}, "mounts": [[host, inside], …], "commands": [[words after the image's name], …],
"outer_namespace": the caller's /proc/self/ns/mnt}.

Needs root. Every mount is in the private mount namespace of this process, the root file system itself a tmpfs: all of it is
gone when the process ends, nothing is ever deleted by path.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NO_DEBIAN = 77
"""Exit status where debootstrap fails: there is no way to an archive."""
ROOT_BYTES = "4g"
"""Limit of the tmpfs; the image of _cpu takes 1.4 GiB."""
IGNORED = ("LABEL", "ENTRYPOINT")
"""Instructions without effect on the steps; the command line replaces the entry point."""
SLIM = "".join(f"path-exclude=/usr/share/{folder}/*\n" for folder in ("doc", "info", "locale", "man"))
"""What Debian's image "slim" leaves out."""


class Image:
    """State of a Dockerfile between two instructions."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.root = Path(job["root"])
        self.context = Path(job["context"])
        self.given: dict[str, str] = job["arguments"]
        self.host: dict[str, str] = job["host_environment"]
        self.arguments: dict[str, str] = {}
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.user = "root"
        self.folder = "/"

    def follow(self, instruction: str, rest: str) -> None:
        """Carry out one instruction."""
        method = getattr(self, f"on_{instruction.lower()}", None)
        if method is not None:
            method(rest)
        elif instruction not in IGNORED:
            raise SystemExit(f"{instruction} is an instruction this interpreter does not know")

    def on_from(self, rest: str) -> None:
        say(f"(its counterpart, made by debootstrap) FROM {rest}")

    def on_arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        if name in self.given or default:
            self.arguments[name] = self.given.get(name, default)

    def on_env(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.environment[name] = self.expanded(shlex.split(value)[0])

    def on_user(self, rest: str) -> None:
        self.user = rest.partition(":")[0]

    def on_workdir(self, rest: str) -> None:
        self.folder = rest
        (self.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def on_copy(self, rest: str) -> None:
        source, target = rest.split()
        shutil.copytree(self.context / source, self.root / target.lstrip("/"), dirs_exist_ok=True)

    def on_run(self, rest: str) -> None:
        self.run(["/bin/sh", "-c", rest])

    def expanded(self, text: str) -> str:
        known = {**self.arguments, **self.environment}
        return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda found: known.get(found[1] or found[2], ""), text)

    def run(self, words: list[str]) -> None:
        """One command as docker would start it; the process ends when it fails."""
        environment = {**self.host, **self.arguments, **self.environment}
        start = time.monotonic()
        done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, preexec_fn=self.enter, check=False)
        say(f"   exit status {done.returncode}, {time.monotonic() - start:.0f} s")
        if done.returncode:
            raise SystemExit(done.returncode)

    def enter(self) -> None:
        """Between fork and exec: into the root file system, as the user, in the folder."""
        os.chroot(self.root)
        entry = pwd.getpwnam(self.user)
        os.setgroups([entry.pw_gid])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        os.chdir(self.folder)


def say(text: str) -> None:
    print(text, flush=True)


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, rest) of every line; CM writes no continued lines."""
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(name.upper(), rest.strip()) for name, _, rest in pairs]


def make_root(root: Path, suite: str, host_files: dict[str, str]) -> None:
    """A minimal Debian with this machine's ways to reach Debian's archive: its mirror and apt's settings."""
    mount("-t", "tmpfs", "-o", f"size={ROOT_BYTES},mode=755", "tmpfs", str(root))
    words = ["debootstrap", "--variant=minbase", suite, str(root), *debian_mirror()]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(SLIM)
    settings = subprocess.run(["apt-config", "dump", "Acquire"], check=True, capture_output=True, text=True).stdout
    (root / "etc/apt/apt.conf.d/90host").write_text(settings)
    for path, inside in {"/etc/resolv.conf": "/etc/resolv.conf", "/etc/hosts": "/etc/hosts", **host_files}.items():
        copy = root / inside.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    mount("-t", "proc", "proc", str(root / "proc"))
    mount("-t", "sysfs", "-o", "ro", "sysfs", str(root / "sys"))


def debian_mirror() -> list[str]:
    """The first Debian archive this machine's apt uses; without one debootstrap takes its own default."""
    lines: list[str] = []
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        if path.suffix in (".list", ".sources") and path.is_file():
            lines += path.read_text().splitlines()
    for line in lines:
        found = re.match(r"(?:URIs:|deb(?: \[[^]]*\])?)\s+(\S+/debian)/?(?:\s|$)", line)
        if found:
            return [found[1]]
    return []


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def main(path: str) -> None:
    """Build, then run."""
    job = json.loads(Path(path).read_text())
    if os.readlink("/proc/self/ns/mnt") == job["outer_namespace"]:
        raise SystemExit("run this with unshare --mount: its mounts must not outlive it")
    image = Image(job)
    start = time.monotonic()
    try:
        make_root(image.root, job["suite"], job["host_files"])
    except subprocess.CalledProcessError as error:
        say(f"no root file system: {error}")
        raise SystemExit(NO_DEBIAN) from error
    say(f"root file system: {time.monotonic() - start:.0f} s")
    for name, rest in instructions(Path(job["dockerfile"]).read_text()):
        say(f"{name} {rest}")
        image.follow(name, rest)
    for host, inside in job["mounts"]:
        place = image.root / inside.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        mount("--bind", host, str(place))
    image.arguments = {}
    for words in job["commands"]:
        say(f"docker run … {shlex.join(words)}")
        image.run(words)
    used = shutil.disk_usage(image.root).used
    say(f"root file system holds {used / 2**20:.0f} MiB")


if __name__ == "__main__":
    main(sys.argv[1])
