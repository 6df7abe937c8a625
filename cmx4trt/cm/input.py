"""What a user typed at CM -> option values, or one sentence saying what cannot be meant.

CM ignores flags it does not know, drops words that stand alone and writes every value, unescaped, into a shell script
(``export KEY="VALUE"``). So all of it is looked at here, before CM runs anything. Standard library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from cmx4trt.errors import RequestError
from cmx4trt.options import OPTIONS, OPTIONS_BY_NAME
from cmx4trt.proof_options import CM_OPTIONS, SYNTHETIC_DATA
from cmx4trt.values import RANDOM_DATA

_CM_FLAGS = """
    action artifact artifacts automation cm_debug cmd common ignore_inheritance out parsed_artifact parsed_artifacts
    parsed_automation save_to_json tags unparsed_cmd

    ad add_deps add_deps_recursive adr const const_state debug debug_script debug_script_tags debug_uid detected_versions
    dirty docker_run_deps dump_version_info env extra_cache_tags fake_deps fake_run force_cache force_new_env_keys
    force_new_state_keys h help id ignore_script_error j json name new only_execute_from_cache outdirname pause prepare
    print_deps print_env print_readme print_versions quiet recursion recursion_int recursion_spaces remembered_selections
    renew repro repro_dir repro_prefix run_state s save_env script_call_prefix shell silent skip_cache
    skip_remembered_selections skip_sudo skip_sys_utils skip_write_test space state time v verbose

    accept_license gh_token git_ssh hf_token skip_compile skip_run skip_system_deps
"""
CM_FLAGS = frozenset(_CM_FLAGS.split())
"""Input keys that belong to CM: those of cmind.core.access, of the automation "script" of cmx4mlops (docstring and code
of its method run; the id of a test input), and of its list ``input_flags_converted_to_env``."""

_CM_FLAGS_WITHOUT_EFFECT = {
    "input": "; the model file is --model",
    "outbasename": "; the folder of the engine is --output_dir",
    "output": "; the folder of the engine is --output_dir",
    "path": "; the model file is --model",
    "version": "",
    "version_max": "",
    "version_max_usable": "",
    "version_min": "",
}
_PROOF_FLAGS = frozenset(option.name for option in CM_OPTIONS)
_MOUNTED = "/cm-mount/"
"""Where CM mounts the host's folders in a container."""
_WORDS_FOR_PATHS = {"calibration_data": RANDOM_DATA, "data": SYNTHETIC_DATA}
"""Options whose value is a path or this word."""
_DEPENDENCY_FLAGS = ("ad", "add_deps", "adr", "add_deps_recursive")

INTERNAL_KEYS = frozenset(
    "CMX4TRT_" + name
    for name in (
        *("EXIT_STATUS", "PYTHONPATH", "REQUEST_FILE", "RESULT_FILE", "WORKER_FLAGS"),
        *("RUN_VERIFY", "RUN_BENCH", "RUN_LOADGEN", "NEED_IMAGES", "HAVE_LOADGEN"),
        *("HAVE_MODEL", "HAVE_CALIBRATION", "HAVE_COMMON_CODE", "HAVE_INFERENCE_SOURCE"),
        *("HAVE_NUMPY", "HAVE_PYCUDA", "HAVE_TENSORRT"),
    )
)
"""Environment keys of ours that no input maps to."""

_UNSAFE = re.compile(r'["$`\\\x00-\x08\x0a-\x1f\x7f]')
"""Characters that bash executes or alters inside double quotes, and line breaks and other control characters."""
_ESCAPED = re.compile(r'\\["$`\\]')
_ENVIRONMENT_NAME = re.compile(r"(\+[^A-Za-z0-9_\"$`\\]?)?[A-Za-z_][A-Za-z0-9_]*")
"""A shell variable; CM marks lists to prepend by '+', with an optional separator character after it."""
_PLACES = {
    "CM_TMP_CURRENT_PATH": "the path of the current folder",
    "CM_TMP_CURRENT_SCRIPT_PATH": "the path this script is installed at",
}


def check_flags(given: Mapping[str, Any], mapping: Mapping[str, str], variations: Sequence[str]) -> None:
    """Refuse flags nobody reads, flags without their value and words that stand alone. Raises RequestError."""
    for flag, value in given.items():
        if flag in mapping:
            if isinstance(value, bool) and not _is_switch(flag):
                raise RequestError(
                    f"--{flag} was given without a value{_lost_word(given)}; write --{flag}=VALUE, with the equals sign"
                )
        elif flag in _CM_FLAGS_WITHOUT_EFFECT:
            if value:
                raise RequestError(f"--{flag} is a flag of CM that has no effect here{_CM_FLAGS_WITHOUT_EFFECT[flag]}")
        elif flag not in CM_FLAGS:
            raise RequestError(f"there is no flag --{flag}{_instead_of(flag, tuple(mapping), variations)}")
    word = next(iter(_lost_words(given)), None)
    if word is not None:
        raise RequestError(
            f"the word '{word}' stands alone; put variations inside the quotes and write flags as --flag=VALUE"
        )


def _is_switch(flag: str) -> bool:
    if flag in _PROOF_FLAGS:
        return False
    return flag not in OPTIONS_BY_NAME or isinstance(OPTIONS_BY_NAME[flag].default, bool)


def _lost_words(given: Mapping[str, Any]) -> list[str]:
    words = [str(word) for word in given.get("artifacts") or ()]
    if words and re.search(r"[ ,]", words[0]):  # CM takes a first word with a space or comma as further tags
        del words[0]
    return words


def _lost_word(given: Mapping[str, Any]) -> str:
    words = _lost_words(given)
    return f" (the word '{words[0]}' stands alone)" if words else ""


def _instead_of(flag: str, flags: Sequence[str], variations: Sequence[str]) -> str:
    if flag in variations:
        return f"; '{flag}' is a variation, add _{flag} to the tags"
    close = get_close_matches(flag.lower(), flags, n=1)
    return f"; did you mean --{close[0]}?" if close else f"; the flags are {', '.join(sorted(flags))}"


def check_exports(
    given: Mapping[str, Any], env: Mapping[str, Any], const: Mapping[str, Any], mapping: Mapping[str, str]
) -> None:
    """Refuse names and values that CM's unescaped ``export`` would execute or alter. Raises RequestError.

    What was typed must hold none of the characters at all. From Python, keys of other scripts may hold the escapes that
    CM's own scripts write (``\\"``); as a dependency, they are the calling script's business.
    """
    typed, dependency = bool(given.get("cmd")), bool(given.get("recursion"))
    flag_of = {key: f"--{flag}" for flag, key in mapping.items()}
    for key, value in (*env.items(), *const.items()):
        ours = key in flag_of or key.startswith("CMX4TRT_")
        if ours or not dependency:
            _check_name(key)
            check_value(flag_of.get(key) or _PLACES.get(key) or f"the environment key {key}", value, ours or typed)
        if key.startswith("CMX4TRT_") and key not in INTERNAL_KEYS and key not in flag_of:
            close = get_close_matches(key, tuple(flag_of), n=1)
            raise RequestError(f"there is no environment key {key}{f'; did you mean {close[0]}?' if close else ''}")
    for flag in _DEPENDENCY_FLAGS:
        if not dependency:
            check_value(f"--{flag}", given.get(flag))


def _check_name(name: str) -> None:
    if not _ENVIRONMENT_NAME.fullmatch(name):
        raise RequestError(f"{name!a} is not the name of an environment key; use letters, digits and _")


def check_value(where: str, value: Any, strict: bool = True) -> None:
    """Refuse unsafe characters anywhere in ``value``; not ``strict``: unless escaped. Raises RequestError."""
    for text in _texts_in(value):
        found = _UNSAFE.search(text if strict else _ESCAPED.sub("", text))
        if found:
            raise RequestError(
                f"{where} holds {_named(found[0])}, which the shell that CM starts would execute or alter; "
                "use a value without quotation marks, dollar signs, backticks, backslashes and line breaks"
            )


def _named(character: str) -> str:
    names = {'"': "a quotation mark", "$": "a dollar sign", "`": "a backtick", "\\": "a backslash"}
    return names.get(character) or ("a line break" if character in "\r\n" else "a control character")


def _texts_in(value: Any) -> Iterator[str]:
    """Every text in a value of CM: text, a list, or a dict, whose keys name dependencies and environment keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if re.search(r"[\s;&|<>()]", str(key)):
                raise RequestError(f"{key!a} is not the name of a dependency or environment key")
            yield str(key)
            yield from _texts_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts_in(inner)


def with_words(env: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """``env`` with the words that CM's docker action took for paths.

    It rewrites all values of the inputs that _cm.yaml lists as paths: ``--data=synthetic`` arrives in the container as
    ``/cm-mount/<the caller's folder>/synthetic``.
    """
    words = {}
    for option, word in _WORDS_FOR_PATHS.items():
        value = str(env.get(mapping[option], ""))
        if value.startswith(_MOUNTED) and os.path.basename(value).lower() == word and not os.path.exists(value):
            words[mapping[option]] = word
    return {**env, **words}


def option_values(
    env: Mapping[str, Any], given: Mapping[str, Any], mapping: Mapping[str, str], variations: Sequence[str]
) -> dict[str, object]:
    """Values for ``BuildRequest.from_values`` from CM's environment with its constants.

    Builder and precision come from a flag or a variation the user named; CM's own defaults of the two groups are left
    to BuildRequest, which has the same ones, so that they follow ``--device`` and ``--builder`` too. ``variations`` are
    the explicit ones, without underscore.
    """
    values: dict[str, object] = {option.name: env.get(mapping.get(option.name, "")) for option in OPTIONS}
    if values["batch_size"] is None:
        values["batch_size"] = env.get("CM_BATCH_SIZE")
    if values["device"] == "gpu":  # the seed's word
        values["device"] = "cuda"
    for group in ("builder", "precision"):
        named = given.get(group) is not None or any(choice in variations for choice in OPTIONS_BY_NAME[group].choices)
        if not named:
            values[group] = None
    return values
