"""MLCFlow's adapter: what is MLC's own, and the hooks that customize.py hands to MLC. Standard library only."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from typing import Any

from cmx4trt.cm.hooks import CM_FLAGS, FLAGS_WITHOUT_EFFECT
from cmx4trt.frameworks.base import Framework
from cmx4trt.frameworks.hooks import Hooks

_FLAGS = """
    all command details mlc_input_file mlc_output mlc_run_cmd p path_only script_tags select select_default target
    test_input_id test_input_index variation_tags verify_ssl
"""
MLC_FLAGS = CM_FLAGS | frozenset(_FLAGS.split())
"""Input keys that belong to MLC: those of CM, which its script automation descends from, and those that its command line adds."""

_LINES = (("mlcr",), ("mlc", "run", "script"), ("mlcflow", "run", "script"))
"""What runs a script and nothing else; docker, experiment and the like go on after a run, whatever became of it."""
_TAGS = "generate,engine,mlperf,inference,nvidia"


def _split(given: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The typed line, and what follows its command; nothing for other actions."""
    program, *words = shlex.split(str(given.get("mlc_run_cmd") or "")) or [""]
    words = [os.path.basename(program), *words]
    for line in _LINES:
        if tuple(words[: len(line)]) == line:
            return words, words[len(line) :]
    return [], []


def _stray_words(given: Mapping[str, Any]) -> list[str]:
    """MLC takes the first word after its command as the tags."""
    words = _split(given)[1]
    return [word for place, word in enumerate(words) if place and not word.startswith("-")]


def _variations(i: Mapping[str, Any]) -> tuple[str, ...]:
    """From the tags as they were given: MLC adds the default variations to ``variation_tags``."""
    tags = re.split(r"[\s,]+", str(i["input"].get("tags") or ""))
    return tuple(tag[1:] for tag in tags if tag.startswith("_"))


def _usage(variations: str, flags: str) -> str:
    return f"mlcr {','.join((_TAGS, *variations.split()))} {flags}".rstrip()


MLC = Framework(
    name="MLC",
    prefix="MLC_",
    flags=MLC_FLAGS,
    flags_without_effect={**FLAGS_WITHOUT_EFFECT, "folder": "", "search_folder_path": ""},
    words=lambda given: _split(given)[0],
    stray_words=_stray_words,
    variations=_variations,
    usage=_usage,
    usages=(
        f"mlcr {_TAGS}[,_variation...] [--flag=value ...]",
        f"mlc run script --tags={_TAGS}[,_variation...] [--flag=value ...]",
    ),
    help_hint="Use --help instead of -h for MLC's own help.",
    mounted="/mlc-mount/",
    places={
        "MLC_TMP_CURRENT_PATH": "the path of the current folder",
        "MLC_USER_RUN_DIR": "the path of the current folder",
        "MLC_TMP_CURRENT_SCRIPT_PATH": "the path this script is installed at",
    },
    exits=True,  # mlcr ends with 1 whatever went wrong, and takes a sentence with the word "network" for a failed download
)

_HOOKS = Hooks(MLC)
predeps, preprocess, postprocess = _HOOKS.predeps, _HOOKS.preprocess, _HOOKS.postprocess
