"""One engine on several GPUs: their sessions combined into one, with all of their streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.devices.placement import Placement
    from cmx4trt.sessions.base import Session, Stream


class SessionGroup:
    """See ``sessions.base.Session``. Queries are answered by the first session; its page-locked memory serves all."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.sessions = tuple(sessions)
        self._first = first = self.sessions[0]
        self.inputs, self.outputs = first.inputs, first.outputs
        self.min_batch, self.max_batch = first.min_batch, first.max_batch
        self.gathers = all(session.gathers for session in self.sessions)
        self.placements: tuple[Placement, ...] = tuple(p for session in self.sessions for p in session.placements)
        self.device = ", ".join(session.device for session in self.sessions)

    def input_shape(self, name: str) -> tuple[int | str | None, ...]:
        """The declared shape of an input."""
        return self._first.input_shape(name)

    def input_dtype(self, name: str) -> str:
        """The numpy name of an input's element type."""
        return self._first.input_dtype(name)

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        """All outputs for one batch, by the first GPU."""
        return self._first.run(feeds)

    def streams(self) -> Sequence[Stream]:
        """The copy streams of all GPUs."""
        return [stream for session in self.sessions for stream in session.streams()]

    def allocate(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Page-locked memory, which all GPUs read."""
        return self._first.allocate(shape, dtype)

    def close(self) -> None:
        """Close all; the first, whose memory the others may be reading, last."""
        with ExitStack() as closing:
            for session in self.sessions:
                closing.callback(session.close)
