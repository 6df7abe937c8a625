"""Which value an input has: a flag, an environment key or a variation that was typed, else a default.

What was typed wins over every default, and two typed values that differ are refused. A framework cannot do that: it lets
variations win over ``--env.KEY=VALUE``, and its default variations look like typed ones. So variations in _cm.yaml set their
keys as ``default_env``, which overwrites nothing, and here the typed ones are laid over it. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cmx4trt.errors import RequestError
from cmx4trt.frameworks.base import Framework
from cmx4trt.frameworks.input import with_words
from cmx4trt.requests.evaluation_options import CM_OPTIONS
from cmx4trt.requests.options import build_options

CHOSEN = {"builder": "CMX4TRT_CHOSEN_BUILDER", "precision": "CMX4TRT_CHOSEN_PRECISION"}
"""Groups whose default depends on another input: their variations set a key of their own, that nobody types."""
DEFAULT_WORKSPACE_SIZE = "CMX4TRT_DEFAULT_WORKSPACE_SIZE"
"""What a variation sets, that is a default and nobody types."""
Setting = tuple[str, str, str]
"""An environment key, its value, and where it was typed."""


def values_in_effect(framework: Framework, i: Mapping[str, Any], env: Mapping[str, Any]) -> dict[str, Any]:
    """Environment with what was typed; ``i``: what the framework hands to a hook, ``env``: its environment with constants.

    As a dependency the environment is the calling script's, not typed: variations, the default ones too, win over it.
    Raises RequestError where two typed values differ.
    """
    given, meta = i["input"], i["meta"]
    mapping: Mapping[str, str] = meta["input_mapping"]
    values = {key: value for key, value in env.items() if value is not None}
    explicit = framework.variations(i)
    typed = list(_set_by_variations(meta, explicit))
    if given.get("recursion"):
        resolved = str(i["run_script_input"].get("variation_tags_string") or "").split(",")
        names = [name for tag in resolved if (name := tag.strip().removeprefix("_")) and name not in explicit]
        follow = {mapping[option] for option in CHOSEN}  # defaults that follow other inputs: BuildRequest has them
        values |= {key: value for key, value, _ in _set_by_variations(meta, names) if key not in follow}
    # In the environment a flag may have become what it means (with_words).
    flags = [
        (key, values.get(key, given[flag]), f"--{flag}={given[flag]}") for flag, key in mapping.items() if flag in given
    ]
    if not given.get("recursion"):
        # The environment comes last: MLC has written flags into it, and it says nothing new about the others.
        found = [
            *typed,
            *_typed_in_environment(framework, given, mapping),
            *flags,
            *_set_in_environment(meta, values, explicit),
        ]
        _refuse_contradictions(found, mapping)
        typed = [*found, *typed]
    typed += flags
    size = mapping.get("workspace_size", "")
    if DEFAULT_WORKSPACE_SIZE in values and not any(key == size for key, _, _ in typed):
        typed.append((size, values[DEFAULT_WORKSPACE_SIZE], ""))
    return values | {key: value for key, value, _ in typed}


def option_values(values: Mapping[str, Any], mapping: Mapping[str, str], prefix: str) -> dict[str, object]:
    """Values for ``BuildRequest.from_values`` from ``values_in_effect``."""
    found: dict[str, object] = {option.name: values.get(mapping.get(option.name, "")) for option in build_options()}
    if found["batch_size"] is None:
        found["batch_size"] = values.get(f"{prefix}BATCH_SIZE")
    if found["device"] == "gpu":  # the seed's word
        found["device"] = "cuda"
    return found


def _set_by_variations(meta: Mapping[str, Any], names: Sequence[str]) -> Iterator[Setting]:
    """What the variations of these names set."""
    mapping: Mapping[str, str] = meta["input_mapping"]
    for name in names:
        base, _, value = name.partition(".")
        row = meta["variations"].get(name) or meta["variations"].get(f"{base}.#") or {}
        for key, text in {**row.get("env", {}), **row.get("default_env", {})}.items():
            option = next((option for option, chosen in CHOSEN.items() if chosen == key), None)
            yield mapping[option] if option else key, str(text).replace("#", value), f"_{name}"


def _typed_in_environment(
    framework: Framework, given: Mapping[str, Any], mapping: Mapping[str, str]
) -> Iterator[Setting]:
    """``--env.KEY=VALUE`` of a typed line: the framework's own environment has lost those that a flag overwrote."""
    for word in framework.words(given):
        key, equals, value = word.removeprefix("--env.").partition("=")
        if word.startswith("--env.") and equals:
            yield key, with_words(framework, {key: value}, mapping)[key], word


def _set_in_environment(
    meta: Mapping[str, Any], values: Mapping[str, Any], explicit: Sequence[str]
) -> Iterator[Setting]:
    """Inputs in the environment that are no defaults: neither the script's nor those of variations that nobody named."""
    rows: Mapping[str, Any] = meta["variations"]
    taken = {rows[name].get("group") for name in explicit if name in rows}
    defaults = {key: {str(value)} for key, value in meta.get("default_env", {}).items()}
    for row in rows.values():
        if "default" in row and row.get("group") not in taken:
            for key, value in row.get("default_env", {}).items():
                defaults.setdefault(key, set()).add(str(value))
    for key in meta["input_mapping"].values():
        if key in values and str(values[key]) not in defaults.get(key, ()):
            yield key, values[key], f"--env.{key}={values[key]}"


def _refuse_contradictions(typed: Sequence[Setting], mapping: Mapping[str, str]) -> None:
    option_of = {key: option for option, key in mapping.items()}
    first: dict[str, Setting] = {}
    for key, value, where in typed:
        if key not in option_of:
            continue
        _, other, place = first.setdefault(key, (key, value, where))
        if _parsed(option_of[key], other) != _parsed(option_of[key], value):
            raise RequestError(f"{place} and {where} conflict; give only one of them")


def _parsed(option: str, value: object) -> object:
    """The value in one spelling; one that is invalid stays as it is, and is refused later."""
    if option == "device" and value == "gpu":
        return "cuda"
    try:
        one = next((one for one in (*build_options(), *CM_OPTIONS) if one.name == option), None)
        return one.parse(value) if one is not None else str(value)
    except RequestError:
        return value
