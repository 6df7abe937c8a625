"""CM's adapter: what is CM's own, and the hooks that customize.py hands to CM. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cmx4trt.frameworks.base import Framework
from cmx4trt.frameworks.hooks import Hooks

_FLAGS = """
    action artifact artifacts automation cm_debug cmd common control ignore_inheritance out parsed_artifact
    parsed_artifacts parsed_automation save_to_json tags unparsed_cmd

    ad add_deps add_deps_recursive adr const const_state debug debug_script debug_script_tags debug_uid detected_versions
    dirty docker_run_deps dump_version_info env extra_cache_tags fake_deps fake_run force_cache force_new_env_keys
    force_new_state_keys h help id ignore_script_error j json name new only_execute_from_cache outdirname pause prepare
    print_deps print_env print_readme print_versions quiet recursion recursion_int recursion_spaces remembered_selections
    renew repro repro_dir repro_prefix run_state s save_env script_call_prefix shell silent skip_cache
    skip_remembered_selections skip_sudo skip_sys_utils skip_write_test space state time v verbose

    accept_license gh_token git_ssh hf_token skip_compile skip_run skip_system_deps
"""
CM_FLAGS = frozenset(_FLAGS.split())
"""Input keys that belong to CM: those of cmind.core.access and of CMX (control), of the automation "script" of cmx4mlops
(docstring and code of its method run; the id of a test input), and of its list ``input_flags_converted_to_env``."""

FLAGS_WITHOUT_EFFECT = {
    "input": "; use --model for the model file",
    "outbasename": "; use --output_dir for the engine's folder",
    "output": "; use --output_dir for the engine's folder",
    "path": "; use --model for the model file",
    "version": "",
    "version_max": "",
    "version_max_usable": "",
    "version_min": "",
}


def _words(given: Mapping[str, Any]) -> list[str]:
    typed = given.get("cmd") or []
    return typed.split() if isinstance(typed, str) else [str(word) for word in typed]


def _stray_words(given: Mapping[str, Any]) -> list[str]:
    words = [str(word) for word in given.get("artifacts") or ()]
    if words and re.search(r"[ ,]", words[0]):  # CM takes a first word with a space or comma as further tags
        del words[0]
    return words


def _usage(variations: str, flags: str) -> str:
    return f'cmr "generate engine mlperf inference nvidia {variations}" {flags}'.rstrip()


CM = Framework(
    name="CM",
    prefix="CM_",
    flags=CM_FLAGS,
    flags_without_effect=FLAGS_WITHOUT_EFFECT,
    words=_words,
    stray_words=_stray_words,
    variations=lambda i: tuple(i["variation_tags"]),
    usage=_usage,
    usages=(
        'cmr "generate engine mlperf inference nvidia [_variation ...]" [--flag=value ...]',
        "cm run script --tags=generate,engine,mlperf,inference,nvidia[,_variation...] [--flag=value ...]",
    ),
    help_hint="Use --help instead of -h for CM's own help.",
    mounted="/cm-mount/",
    places={
        "CM_TMP_CURRENT_PATH": "the path of the current folder",
        "CM_TMP_CURRENT_SCRIPT_PATH": "the path this script is installed at",
    },
)

_HOOKS = Hooks(CM)
predeps, preprocess, postprocess = _HOOKS.predeps, _HOOKS.preprocess, _HOOKS.postprocess
