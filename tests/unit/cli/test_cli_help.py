"""``cmx4trt --help`` and ``cmx4trt COMMAND --help``: complete, readable at 80 columns, with examples that are right."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cmx4trt.cli import command_line
from cmx4trt.cli.help import EXAMPLES
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.options import build_options

COMMANDS = list(command_line._COMMANDS)
ROWS = [(command, example.arguments) for command, examples in EXAMPLES.items() for example in examples]


def help_of(*words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        command_line._parser([*words, "--help"]).parse_args([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [(), *((command,) for command in COMMANDS)], ids=lambda words: " ".join(words) or "all"
)
def test_fits_80_columns(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = help_of(*words, capsys=capsys, monkeypatch=monkeypatch).splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert not any(line.endswith("-") for line in lines), "a word was cut at its hyphen"


def test_every_command_is_listed_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = help_of(capsys=capsys, monkeypatch=monkeypatch).splitlines()
    for name, command in command_line._COMMANDS.items():
        assert any(line.split() == [name, *command.help.split()] for line in lines), name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(command, capsys=capsys, monkeypatch=monkeypatch).replace(" \\\n    ", " ")
    assert EXAMPLES[command]
    for example in EXAMPLES[command]:
        assert f"  # {example.purpose}\n  cmx4trt {command} {example.arguments}".rstrip() + "\n" in text


@pytest.mark.parametrize(("command", "arguments"), ROWS)
def test_every_example_is_understood(command: str, arguments: str) -> None:
    words = [command, *shlex.split(arguments)]
    parsed, unknown = command_line._parser(words).parse_known_args(words)
    assert unknown == []
    if command == "build":
        given = {o.name: v for o in build_options() if (v := getattr(parsed, o.name)) is not None}
        assert given
        BuildRequest.from_values(given)
    for option in getattr(parsed, "options", ()):
        option.parse(getattr(parsed, option.name))


@pytest.mark.parametrize("arguments", [row[1] for row in ROWS if row[0] == "build" and "cuda" not in row[1]])
def test_every_build_example_runs_dry(
    arguments: str,
    resnet50_file: Path,
    tmp_path: Path,
    tensorrt_rtx: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "resnet50.onnx").symlink_to(resnet50_file)
    (tmp_path / "cal.cache").write_text("TRT-80000-EntropyCalibration2\ninput: 3c010a14\n")
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["build", *shlex.split(arguments), "--dry_run"]) == 0, capsys.readouterr().err
    assert "would build" in capsys.readouterr().out


def test_options_of_build_stand_in_groups_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of("build", capsys=capsys, monkeypatch=monkeypatch)
    places = [text.index(f"\n{title}:\n") for title in dict.fromkeys(option.group for option in build_options())]
    assert places == sorted(places)
    for option in build_options():
        assert text.count(f"\n  --{option.name} ") == 1, option.name
        assert text.index(f"\n  --{option.name} ") > places[0]
        assert f"--{option.name.replace('_', '-')} " not in text.replace(f"--{option.name} ", "")
