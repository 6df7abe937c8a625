"""What to do about standard output and error once nobody can read them: a closed terminal, a pipe without a reader."""

from __future__ import annotations

import os
import select


def drop_closed_streams() -> None:
    """Send what is still written to standard output and error nowhere, where its reader is gone.

    A program that ends because its terminal was closed still has last words; Python would turn each into an OSError, and
    the exit code into another one.
    """
    for descriptor in (1, 2):
        if _is_closed(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _is_closed(descriptor: int) -> bool:
    """Whether the kernel says so: POLLERR for the writing end of a pipe, POLLHUP for a terminal (poll(2))."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
