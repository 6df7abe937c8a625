"""How long work tells its progress, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

CHECK_ENGINE, READ_MODEL = QUIET = ("check engine", "read model")
"""Stages in which a file is read and hashed: at once for most, seconds for gigabytes. They are worth a word only if they last."""


class Progress(Protocol):
    """Told about stages; stages may overlap, when work runs in two threads."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Entered when the stage begins, left when it ends or fails."""

    def step(self, name: str, done: int, total: int) -> None:
        """``done`` of ``total`` parts of the running stage ``name`` are ready."""

    def note(self, text: str) -> None:
        """A sentence the user should see."""


class Silent:
    """A Progress that tells nobody."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Nothing."""
        yield

    def step(self, name: str, done: int, total: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
