"""What a user typed at the framework, or one sentence saying what is invalid.

CM and MLCFlow ignore flags they do not know, drop words that stand alone and write every value, unescaped, into a shell
script (``export KEY="VALUE"``). So all of it is looked at here, before they run anything. Standard library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from cmx4trt.errors import RequestError
from cmx4trt.frameworks.base import Framework
from cmx4trt.frameworks.sweep import SWEEP_FLAG
from cmx4trt.requests.evaluation_options import CM_OPTIONS
from cmx4trt.requests.options import build_options

_EVALUATION_FLAGS = frozenset(option.name for option in CM_OPTIONS)
_DEPENDENCY_FLAGS = ("ad", "add_deps", "adr", "add_deps_recursive")

_UNSAFE = re.compile(r'["$`\\\x00-\x08\x0a-\x1f\x7f]')
"""Characters that bash executes or alters inside double quotes, and line breaks and other control characters."""
_ESCAPED = re.compile(r'\\["$`\\]')
_ENVIRONMENT_NAME = re.compile(r"(\+[^A-Za-z0-9_\"$`\\]?)?[A-Za-z_][A-Za-z0-9_]*")
"""A shell variable; CM marks lists to prepend by '+', with an optional separator character after it."""


def check_flags(
    framework: Framework, given: Mapping[str, Any], mapping: Mapping[str, str], variations: Sequence[str]
) -> None:
    """Refuse flags nobody reads, flags without their value and words that stand alone. Raises RequestError."""
    lost = framework.stray_words(given)
    for flag, value in given.items():
        if flag in mapping:
            if isinstance(value, bool) and not _is_switch(flag):
                raise RequestError(
                    f"--{flag} was given without a value{_lost_word(lost)}; write --{flag}=VALUE, with the equals sign"
                )
        elif flag in framework.flags_without_effect:
            if value:
                hint = framework.flags_without_effect[flag]
                raise RequestError(f"--{flag} is a flag of {framework.name} that has no effect here{hint}")
        elif flag not in framework.flags:
            raise RequestError(f"unknown flag --{flag}{_instead_of(flag, tuple(mapping), variations)}")
    if lost:
        raise RequestError(
            f"the word '{lost[0]}' stands alone; put variations beside the tags ({framework.usage('_variation', '')}) "
            "and write flags as --flag=VALUE"
        )


def _is_switch(flag: str) -> bool:
    if flag in _EVALUATION_FLAGS or flag == SWEEP_FLAG:
        return False
    return all(flag != option.name or isinstance(option.default, bool) for option in build_options())


def _lost_word(words: Sequence[str]) -> str:
    return f" (the word '{words[0]}' stands alone)" if words else ""


def _instead_of(flag: str, flags: Sequence[str], variations: Sequence[str]) -> str:
    if flag in variations:
        return f"; '{flag}' is a variation, add _{flag} to the tags"
    close = get_close_matches(flag.lower(), flags, n=1)
    return f"; did you mean --{close[0]}?" if close else f"; the flags are {', '.join(sorted(flags))}"


def check_exports(
    framework: Framework,
    given: Mapping[str, Any],
    env: Mapping[str, Any],
    const: Mapping[str, Any],
    mapping: Mapping[str, str],
    internal: Collection[str],
) -> None:
    """Refuse names and values that the framework's unescaped ``export`` would execute or alter. Raises RequestError.

    What was typed must hold none of the characters at all. From Python, keys of other scripts may hold the escapes that
    the framework's own scripts write (``\\"``); as a dependency, they are the calling script's business.
    """
    typed, dependency = framework.typed(given), bool(given.get("recursion"))
    flag_of = {key: f"--{flag}" for flag, key in mapping.items()}
    for key, value in (*env.items(), *const.items()):
        ours = key in flag_of or key.startswith("CMX4TRT_")
        if ours or not dependency:
            _check_name(key)
            where = flag_of.get(key) or framework.places.get(key) or f"the environment key {key}"
            check_value(framework.name, where, value, ours or typed)
        if key.startswith("CMX4TRT_") and key not in internal and key not in flag_of:
            close = get_close_matches(key, tuple(flag_of), n=1)
            raise RequestError(f"unknown environment key {key}{f'; did you mean {close[0]}?' if close else ''}")
    for flag in _DEPENDENCY_FLAGS:
        if not dependency:
            check_value(framework.name, f"--{flag}", given.get(flag))


def _check_name(name: str) -> None:
    if not _ENVIRONMENT_NAME.fullmatch(name):
        raise RequestError(f"{name!a} is not the name of an environment key; use letters, digits and _")


def check_value(framework: str, where: str, value: Any, strict: bool = True) -> None:
    """Refuse unsafe characters anywhere in ``value``; not ``strict``: unless escaped. Raises RequestError."""
    for text in _texts_in(value):
        found = _UNSAFE.search(text if strict else _ESCAPED.sub("", text))
        if found:
            raise RequestError(
                f"{where} contains {_named(found[0])}, which the shell that {framework} starts would execute or alter; "
                "use a value without quotation marks, dollar signs, backticks, backslashes and line breaks"
            )


def _named(character: str) -> str:
    names = {'"': "a quotation mark", "$": "a dollar sign", "`": "a backtick", "\\": "a backslash"}
    return names.get(character) or ("a line break" if character in "\r\n" else "a control character")


def _texts_in(value: Any) -> Iterator[str]:
    """Every text in a value of the framework: text, a list, or a dict, whose keys name dependencies and environment keys."""
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


def with_words(framework: Framework, env: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """``env`` with the words that the framework's docker action took for paths.

    It rewrites all values of the inputs that _cm.yaml lists as paths: ``--data=synthetic`` arrives in the container as
    ``/cm-mount/<the caller's folder>/synthetic``. MLC also makes and mounts an empty folder of that name.
    """
    words = {}
    for option in (*build_options(), *CM_OPTIONS):
        key = mapping.get(option.name, "")
        value = str(env.get(key, ""))
        word = os.path.basename(value).lower()
        if word in option.kind.words and value.startswith(framework.mounted) and not _is_there(value):
            words[key] = word
    return {**env, **words}


def _is_there(path: str) -> bool:
    return os.path.exists(path) and not (os.path.isdir(path) and not os.listdir(path))
