"""Writes a Dockerfile of the steps that depend on what MLC passes on: our meta's docker settings, and the line to run."""

from pathlib import Path


def preprocess(i):
    env = i["env"]
    flags = env.get("MLC_DOCKER_PIP_INSTALL_EXTRA_FLAGS", "")
    if "--break-system-packages" not in flags:  # MLCommons' script then puts this in place of all flags
        flags = "--break-system-packages"
    copies = [line.split(":") for line in env.get("MLC_DOCKER_COPY_FILES", [])]
    update = "" if env.get("MLC_DOCKER_NOT_PULL_UPDATE") == "yes" else "mlc pull repo && "
    steps = [
        f"FROM {env['MLC_DOCKER_IMAGE_BASE']}",
        "ARG UID=1000",
        "ARG GID=1000",
        *(f"COPY {Path(source).name} {target}" for source, target in copies),
        "RUN apt-get update -y",
        "RUN apt-get install -y python3 python3-pip python3-venv git sudo",
        "RUN groupadd -g $GID -o mlc",
        "RUN useradd -m -u $UID -g $GID -o --create-home --shell /bin/bash mlcuser",
        "USER mlcuser:mlc",
        "ENV HOME=/home/mlcuser",
        "WORKDIR /home/mlcuser",
        *venv(env),
        'ENV PATH="$PATH:$HOME/.local/bin"',
        f"RUN python3 -m pip install wheel mlcflow requests giturlparse tabulate {flags}",
        f"RUN mlc pull repo {env['MLC_MLOPS_REPO']} --branch={env['MLC_MLOPS_REPO_BRANCH']}",
        *(f"RUN {command}" for command in env.get("MLC_DOCKER_EXTRA_MLC_REPOS", "").split(",") if command),
        f"RUN {update}{env['MLC_DOCKER_RUN_CMD']}{env['MLC_DOCKER_FAKE_RUN_OPTION']}",
    ]
    path = Path(env["MLC_DOCKERFILE_WITH_PATH"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{step}\n" for step in steps))
    return {"return": 0}


def venv(env):
    if env.get("MLC_DOCKER_USE_VIRTUAL_PYTHON", "yes") == "no":
        return []
    return ["RUN python3 -m venv $HOME/venv/mlc", 'ENV PATH="$HOME/venv/mlc/bin:$PATH"']
