"""Standard output and error when nobody can read them any more: a closed terminal, a pipe without a reader."""

from __future__ import annotations

import os
import select


def drop_closed_streams() -> None:
    """Discard what is still written to standard output or error if its reader is gone.

    A program that ends because its terminal was closed may still print; Python would turn that into an OSError, and
    change the exit code.
    """
    for descriptor in (1, 2):
        if _is_closed(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _is_closed(descriptor: int) -> bool:
    """Whether the kernel reports it: POLLERR for the write end of a pipe, POLLHUP for a terminal (poll(2))."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
