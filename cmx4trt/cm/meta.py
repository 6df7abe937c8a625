"""What ``_cm.yaml`` says of the backends, written from their registry. Standard library only.

``CMX4TRT_WRITE_DOCS=1 python -m pytest tests/cm/test_contract.py`` writes the file anew.
"""

from __future__ import annotations

import re
import textwrap

from cmx4trt.backends import all_backends
from cmx4trt.backends.base import Backend
from cmx4trt.requests.options import OPTIONS_BY_NAME

_BEGIN, _END = "  # begin of builders\n", "  # end of builders\n"
_FOLLOWING = ("builder", "precision", "target")
"""Inputs whose descriptions follow the registry."""
_WIDTH = 124


def meta_with_backends(text: str) -> str:
    """``_cm.yaml`` as ``text`` with the variations of all backends, and with the descriptions that list them."""
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    text = before + _BEGIN + "".join(map(_variation, all_backends())) + _END + after
    for name in _FOLLOWING:
        before, rest = re.split(rf"(?m)^  {name}:\n(?=    desc:)", text, maxsplit=1)
        text = before + _description(name) + rest[rest.index("    sort: ") :]
    return text


def _variation(backend: Backend) -> str:
    return (
        f"  {backend.name}:\n    desc: >-\n      {backend.about}\n    group: builder\n"
        f"    env:\n      CMX4TRT_CHOSEN_BUILDER: {backend.name}\n"
        f"    default_variations:\n      precision: {backend.default_precision}\n"
    )


def _description(name: str) -> str:
    option = OPTIONS_BY_NAME[name]
    by_variation = f"; also by the variations {', '.join(f'_{choice}' for choice in option.choices)}"
    hint = by_variation if option.choices else "; e.g. --target=ampere,ada"
    sentence = option.help[0].upper() + option.help[1:] + hint
    wrapped = textwrap.fill(
        sentence, _WIDTH, initial_indent="      ", subsequent_indent="      ", break_on_hyphens=False
    )
    choices = f"    choices: [{', '.join(option.choices)}]\n" if option.choices else ""
    return f"  {name}:\n    desc: >-\n{wrapped}\n{choices}"
