"""The layout of ``cmx4trt COMMAND --help``: one spelling of each flag, short usage, examples at the end."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_HELP_COLUMN = 28
"""Column where explanations begin; longer flags get their own line."""
_LONG_USAGE = 6
"""Commands with more flags than this do not repeat them in the usage line."""


class Example(NamedTuple):
    """A command line and its purpose."""

    purpose: str
    arguments: str


_ENGINE = "engine.plan"
EXAMPLES: Mapping[str, tuple[Example, ...]] = {
    "build": (
        Example("ResNet-50 with random weights: nothing is downloaded", "--random_weights=0"),
        Example(
            "your own model, dynamic batch 1 to 16, bfloat16", "--model=resnet50.onnx --batch_size=16 --precision=bf16"
        ),
        Example("RetinaNet for two generations of GPUs", "--network=retinanet --random_weights=0 --target=ampere,ada"),
        Example(
            "int8 from a calibration cache", "--model=resnet50.onnx --precision=int8 --calibration_cache=cal.cache"
        ),
        Example("TensorRT on the local GPU", "--device=cuda --builder=tensorrt --model=resnet50.onnx"),
    ),
    "inspect": (Example("the manifest as a table", _ENGINE), Example("the same as JSON", f"{_ENGINE} --json")),
    "verify": (
        Example("compare with the original model", _ENGINE),
        Example("also measure the accuracy on your images", f"{_ENGINE} --data=imagenet --count=500"),
    ),
    "bench": (
        Example("in the engine's own scenario", _ENGINE),
        Example("one minute of the Server scenario", f"{_ENGINE} --scenario=Server --target_qps=200 --duration=60"),
        Example("with MLPerf's own durations and settings", f"{_ENGINE} --rules=mlperf --user_conf=user.conf"),
    ),
    "report": (
        Example("a report beside the engine", _ENGINE),
        Example("two engines side by side", f"{_ENGINE} other.plan --html=both.html"),
    ),
    "prepare": (Example("the graph of an fp16 engine", "--model=resnet50.onnx --precision=fp16 --save=graph.onnx"),),
    "calibrate": (
        Example(
            "ranges of your model from your images",
            "--model=resnet50.onnx --calibration_data=images --ranges=ranges.json",
        ),
    ),
    "tune": (Example("measure and write the table beside the engine", _ENGINE),),
    "sweep": (
        Example("an example file, with comments", "init"),
        Example("what would run", "sweep.yaml --dry_run"),
        Example("on a Ray cluster", "sweep.yaml --on=ray --address=auto"),
    ),
    "gui": (Example("runs start in the folder work", "--folder=work"),),
    "mlc-setup": (Example("once, after pip install", ""),),
    "cm-setup": (Example("once, after pip install", ""),),
    "docker-setup": (Example("once, and after every change of the package", "my-docker"),),
}


class HelpFormatter(argparse.HelpFormatter):
    """argparse's formatter, with one spelling of each flag, no broken words, and the epilog unchanged."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_HELP_COLUMN)

    def add_argument(self, action: argparse.Action) -> None:
        """argparse ignores the indentation of commands when it determines the longest name."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if len(action.option_strings) < 2 or not action.option_strings[0].startswith("--"):
            return super()._format_action_invocation(action)
        value = self._format_args(action, action.dest.upper()) if action.nargs != 0 else ""
        return f"{action.option_strings[0]} {value}".rstrip()

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return text
        return super()._fill_text(text, width, indent)


def explain(parser: argparse.ArgumentParser, command: str) -> None:
    """Add the usage line and the examples to a command's parser, which has all its arguments."""
    actions = parser._actions
    flags = [action for action in actions if action.option_strings]
    if len(flags) > _LONG_USAGE:
        places = (_place(action) for action in actions if not action.option_strings)
        parser.usage = " ".join((parser.prog, *places, "[--flag=value ...]"))
    parser.epilog = _epilog(parser.prog, EXAMPLES.get(command, ()), any("_" in action.dest for action in flags))


def _place(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    return f"{name} [{name} ...]" if action.nargs == "+" else name


def _epilog(prog: str, examples: Iterable[Example], underscores: bool) -> str:
    lines = ["examples:"]
    for example in examples:
        lines += [f"  # {example.purpose}", *_wrapped(f"{prog} {example.arguments}".rstrip())]
    if underscores:
        lines += ["", "Flags may be written with hyphens instead of underscores."]
    return "\n".join(lines)


def _wrapped(line: str) -> list[str]:
    """One command, split into lines that a shell joins again."""
    pieces = textwrap.wrap(line, 74, break_on_hyphens=False, break_long_words=False)
    return [
        f"  {'  ' if index else ''}{piece}" + (" \\" if piece != pieces[-1] else "")
        for index, piece in enumerate(pieces)
    ]
