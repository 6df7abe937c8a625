"""What ``_cm.yaml`` says of options, networks, backends and precisions, written from their declarations, and of this release.

Standard library only.

``CMX4TRT_WRITE_DOCS=1 python -m pytest tests/cm/test_contract.py`` writes the file anew; the rest of it is written by hand.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

from cmx4trt import __version__
from cmx4trt.backends import all_backends
from cmx4trt.backends.base import Backend
from cmx4trt.backends.facts import PRECISION_TITLES
from cmx4trt.base.install import release
from cmx4trt.base.options import Option
from cmx4trt.frameworks.sweep import SWEEP_FLAG
from cmx4trt.networks import all_networks
from cmx4trt.networks.base import Network
from cmx4trt.requests.evaluation_options import CM_OPTIONS
from cmx4trt.requests.options import build_options

_WIDTH = 124
_OWN_WORDS = re.compile(r"yes|no|on|off|true|false|null|y|n|[\d.+-].*", re.IGNORECASE)
"""What YAML would take for something else than text."""


def written_anew(text: str) -> str:
    """``_cm.yaml`` as ``text``, with what follows from the declarations."""
    inputs = (*build_options(), *CM_OPTIONS)
    text = _between(text, "input_mapping:\n", "  dry_run: ", (f"  {one.name}: {one.key}\n" for one in inputs))
    described = (_description(one, 10 * place) for place, one in enumerate(inputs, 1))
    text = _between(text, "input_description:\n", "  dry_run:\n", described)
    paths = (f"  - {name}\n" for name in (*(one.name for one in inputs if one.kind.is_path), SWEEP_FLAG))
    text = _between(text, "  input_paths: &paths\n", "  skip_input_for_fake_run:", paths)
    for name, variations in (
        ("networks", (_network(one, default=not place) for place, one in enumerate(all_networks()))),
        ("builders", map(_builder, all_backends())),
        ("precisions", (_precision(*item) for item in PRECISION_TITLES.items())),
    ):
        text = _between(text, f"  # begin of {name}\n", f"  # end of {name}\n", variations)
    text = re.sub(r"'cmx4trt\[([\w,]+)\]==[^']*'", lambda found: f"'{release(found[1])}'", text)
    return re.sub(r"(?m)^  image_tag_extra: .*$", f"  image_tag_extra: -{__version__}", text)


def _between(text: str, begin: str, end: str, parts: Iterable[str]) -> str:
    before, rest = text.split(begin, 1)
    return before + begin + "".join(parts) + rest[rest.index(end) :]


def _description(option: Option, place: int) -> str:
    lines = [f"  {option.name}:", "    desc: >-", _wrapped(_sentence(option))]
    choices, default = option.choices, option.cm_default or option.default
    if isinstance(option.default, bool):
        choices, default = ("yes", "no"), "yes" if option.default else "no"
    if choices:
        lines.append(f"    choices: [{', '.join(map(_quoted, choices))}]")
    if default is not None:
        lines.append(f"    default: {_quoted(str(default))}")
    return "\n".join([*lines, f"    sort: {place}\n"])


def _sentence(option: Option) -> str:
    text = option.help
    if option.commands:
        text = f"{', '.join(f'_{command}' for command in option.commands)}: {text}"
    elif not (option.applies_to or option.precisions):
        text = text[0].upper() + text[1:]
    if option.cm_variations:
        text += f"; also set by the variations {', '.join(f'_{choice}' for choice in option.choices)}"
    return text + option.cm_note


def _network(network: Network, default: bool) -> str:
    _, height, width = network.spec.input_shape
    return (
        f"  {network.name}:\n    desc: >-\n{_wrapped(f'{network.spec.title}, images of {width}x{height}')}\n"
        f"    group: model\n{'    default: true' if default else ''}".rstrip()
        + f"\n    default_env:\n      CM_MODEL: {network.name}\n"
    )


def _builder(backend: Backend) -> str:
    return (
        f"  {backend.name}:\n    desc: >-\n{_wrapped(backend.about)}\n    group: builder\n"
        f"    env:\n      CMX4TRT_CHOSEN_BUILDER: {backend.name}\n"
        f"    default_variations:\n      precision: {backend.default_precision}\n"
    )


def _precision(name: str, title: str) -> str:
    return (
        f"  {name}:\n    desc: >-\n{_wrapped(title)}\n    group: precision\n"
        f"    env:\n      CMX4TRT_CHOSEN_PRECISION: {name}\n"
    )


def _wrapped(text: str) -> str:
    indent = " " * 6
    return textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _quoted(text: str) -> str:
    return f"'{text}'" if _OWN_WORDS.fullmatch(text) else text
