"""Calls docker as MLCommons' script does: one build, unless the image is there, and one run."""

import os
import subprocess


def preprocess(i):
    env = i["env"]
    tag = env["MLC_DOCKER_IMAGE_BASE"].replace(":", "-").replace("/", "-") + env.get(
        "MLC_DOCKER_IMAGE_TAG_EXTRA", "-latest"
    )
    image = f"localhost/local/{env['MLC_DOCKER_IMAGE_NAME']}:{tag}"
    there = subprocess.run(["docker", "images", "-q", image], capture_output=True, text=True, check=True).stdout
    if not there or env.get("MLC_DOCKER_IMAGE_RECREATE"):
        arguments = [f"--build-arg UID={os.getuid()}", f"--build-arg GID={os.getgid()}"]
        dockerfile = env["MLC_DOCKERFILE_WITH_PATH"]
        build = f'docker build {" ".join(arguments)} -f "{dockerfile}" -t "{image}" .'
        if subprocess.run(build, shell=True, check=False, cwd=os.path.dirname(dockerfile)).returncode:
            return {"return": 1, "error": "docker build failed"}
    gpus = "--gpus=all" if env.get("MLC_DOCKER_ADD_ALL_GPUS") else ""
    mounts = " ".join(f"-v {mount}" for mount in env.get("MLC_DOCKER_VOLUME_MOUNTS", []))
    inside = env["MLC_DOCKER_RUN_CMD"].replace("--docker_run_deps", "").strip()
    run = f"docker run --entrypoint '' {gpus} {mounts} {image} bash -c '{inside}'"
    if subprocess.run(run, shell=True, check=False).returncode:
        return {"return": 1, "error": "docker run failed"}
    return {"return": 0}
