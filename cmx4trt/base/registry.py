"""Things by name, from modules that each offer a tuple of them: this package's, and those named in an environment variable."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Generic, Protocol, TypeVar

from cmx4trt.errors import RequestError


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)


class Registry(Generic[T]):
    """``attribute``: the tuple in each of ``modules``; ``variable``: names further modules, comma-separated.

    Modules are imported when somebody first asks. The order is that of ``modules``.
    """

    def __init__(self, attribute: str, modules: Sequence[str], variable: str) -> None:
        self._attribute = attribute
        self._modules = tuple(modules)
        self._variable = variable
        self._found: dict[str, T] = {}

    def known(self) -> dict[str, T]:
        """All by name. Raises RequestError if a module of the variable offers none."""
        if not self._found:
            named = [name.strip() for name in os.environ.get(self._variable, "").split(",")]
            for module in (*self._modules, *filter(None, named)):
                self._found.update({one.name: one for one in self._offered(module)})
        return self._found

    def _offered(self, module: str) -> tuple[T, ...]:
        try:
            offered: tuple[T, ...] = getattr(import_module(module), self._attribute)
        except (ImportError, AttributeError) as error:
            if module in self._modules:
                raise
            raise RequestError(
                f"{self._variable} names the module {module}, which does not provide {self._attribute} ({error}); "
                "correct the variable"
            ) from error
        return offered

    @contextmanager
    def registered(self, *more: T) -> Iterator[None]:
        """Add some, or replace those with the same names, inside the block."""
        before = dict(self.known())
        self._found.update({one.name: one for one in more})
        try:
            yield
        finally:
            self._found.clear()
            self._found.update(before)
