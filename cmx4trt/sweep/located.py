"""YAML with the line of every value, so that errors can name it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cmx4trt.base.damage import MALFORMED, reason, shortened
from cmx4trt.base.files import open_text
from cmx4trt.base.install import pip_line
from cmx4trt.base.values import nearest
from cmx4trt.errors import MissingSoftwareError, RequestError

MAX_BYTES = 1 << 20
"""A larger file is no sweep."""
MAX_NODES = 100_000
"""Values that a file may stand for, with what its aliases repeat."""


@dataclass(frozen=True, slots=True)
class Located:
    """A value of a file and where it stands: a plain value, a list of Located, or a dict of name -> Located."""

    value: Any
    file: str
    line: int

    def error(self, sentence: str) -> RequestError:
        """A refusal that names the place."""
        return RequestError(f"{self.file}:{self.line}: {sentence}")

    def items(self, known: tuple[str, ...], what: str) -> Iterator[tuple[str, Located]]:
        """The entries of a mapping whose names are all ``known``; none for an empty one. Raises RequestError."""
        if self.value is None:
            return
        if not isinstance(self.value, dict):
            raise self.error(f"{what} is {self.kind}, expected a mapping")
        for name, item in self.value.items():
            if name not in known:
                raise item.error(f"'{shortened(name)}' is not part of {what}{nearest(name, known)}")
            yield name, item

    def list(self, what: str) -> list[Located]:
        """The values of a list; a plain value is a list of one. Raises RequestError."""
        if isinstance(self.value, dict) or self.value is None:
            raise self.error(f"{what} is {self.kind}, expected a list of values")
        return list(self.value) if isinstance(self.value, list) else [self]

    def plain(self, what: str) -> Any:
        """A value that is neither list nor mapping. Raises RequestError."""
        if isinstance(self.value, (dict, list)):
            raise self.error(f"{what} is {self.kind}, expected one value")
        return self.value

    @property
    def kind(self) -> str:
        """What it is, for a sentence."""
        names = {dict: "a mapping", list: "a list", type(None): "empty"}
        return names.get(type(self.value), f"'{shortened(self.value)}'")


def read_located(path: str) -> Located:
    """The content of a YAML file. Raises RequestError, MissingSoftwareError."""
    try:
        import yaml
    except ImportError as error:
        raise MissingSoftwareError(f"PyYAML is not installed in this Python; {pip_line('sweep')}") from error
    try:
        with open_text(path) as stream:
            text = stream.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise RequestError(f"{path} is larger than a megabyte; use 'matrix' for a sweep of many cells")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return _Reader(path, yaml.SafeLoader("")).located(node) if node is not None else Located(None, path, 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise RequestError(f"{path}:{line}: this is not YAML ({error.problem or error.context})") from error
    except yaml.YAMLError as error:
        raise RequestError(f"{path} is not YAML ({shortened(' '.join(str(error).split()))})") from error
    except (OSError, *MALFORMED) as error:
        raise RequestError(f"cannot read sweep file {path}: {reason(error)}; give a YAML file") from error


class _Reader:
    """Makes Located of a document's nodes; aliases may repeat a few, not thousands."""

    def __init__(self, path: str, loader: Any) -> None:
        self._path = path
        self._loader = loader
        self._left = MAX_NODES

    def located(self, node: Any, around: frozenset[int] = frozenset()) -> Located:
        """``around``: the nodes that it stands in. Raises RequestError, YAMLError."""
        line = node.start_mark.line + 1
        self._left -= 1
        if id(node) in around or self._left < 0:
            raise RequestError(
                f"{self._path}:{line}: an alias (*name) contains itself or expands to too many values; write them out"
            )
        around |= {id(node)}
        if node.id == "scalar":
            return Located(self._loader.construct_object(node), self._path, line)
        if node.id == "sequence":
            return Located([self.located(item, around) for item in node.value], self._path, line)
        content: dict[str, Located] = {}
        for key, value in node.value:
            name, where = str(self._loader.construct_object(key)), key.start_mark.line + 1
            if name in content:
                raise RequestError(f"{self._path}:{where}: '{shortened(name)}' is given twice; remove one")
            content[name] = Located(self.located(value, around).value, self._path, where)
        return Located(content, self._path, line)
