"""Everything that can go wrong, one class and one exit code each.

    CmxError                      1   (base; never raised itself)
    ├── RequestError              2   an invalid flag, value or combination
    ├── ModelError                3   the model file is unusable or another network
    ├── OutputError               4   the output folder cannot be written
    ├── MissingSoftwareError      5   a library this request needs is not installed
    ├── BuildError                6   the vendor library refused to build
    ├── VerificationError         7   the prepared graph disagrees with the original model
    ├── DataError                 8   calibration or benchmark data are unusable
    ├── DeviceError               9   no device here can do what was asked, or its memory is too small
    ├── UnsupportedError         10   a combination this release does not build
    ├── ResultInvalidError       11   a benchmark run that LoadGen's rules make INVALID
    └── CellsFailedError         12   cells of a sweep failed; the others are finished

Three codes have no class: 1 is an unforeseen error (a bug of ours), 130 an interruption (SIGINT or SIGTERM), 141 a reader of
standard output that went away.
Messages read: what failed and where; what was found and what was expected; what to do.
"""

from __future__ import annotations

EXIT_UNFORESEEN = 1
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141
"""128 + SIGPIPE, as of every command that a shell ends for this reason (POSIX, Shell Command Language, 2.8.2)."""

OUT_OF_MEMORY = "this machine ran out of memory; close other programs, lower batch_size, or use a machine with more"
"""The sentence for a MemoryError, which ends as a DeviceError does."""


class CmxError(Exception):
    """Base of all errors a user may see: one sentence and the exit code of the command line.

    ``cause`` is what failed. ``advice`` is what to do about it where an engine is to be built: whoever wants something else,
    such as to run one, gives other advice.
    """

    exit_code = 1

    def __init__(self, cause: str, advice: str = "") -> None:
        super().__init__(f"{cause}; {advice}" if advice else cause)
        self.cause = cause


class RequestError(CmxError):
    """An invalid flag, value or combination."""

    exit_code = 2


class ModelError(CmxError):
    """The model file is missing, unreadable, not ONNX or not the network that was asked for."""

    exit_code = 3


class OutputError(CmxError):
    """The output folder cannot hold the engine."""

    exit_code = 4


class MissingSoftwareError(CmxError):
    """A library that this request needs is not installed; the message says what to install."""

    exit_code = 5


class BuildError(CmxError):
    """The vendor library did not build an engine; the message carries its own reason."""

    exit_code = 6


class VerificationError(CmxError):
    """The graph given to the builder does not compute what the original model computes."""

    exit_code = 7


class DataError(CmxError):
    """Calibration or benchmark data are missing or unusable."""

    exit_code = 8


class DeviceError(CmxError):
    """No device of this machine can do what was asked."""

    exit_code = 9


class UnsupportedError(CmxError):
    """A combination that this release does not build."""

    exit_code = 10


class ResultInvalidError(CmxError):
    """LoadGen finished and its own rules make the run INVALID; its logs and the summary are kept."""

    exit_code = 11


class CellsFailedError(CmxError):
    """Cells of a sweep failed, or their results are not valid; the others are finished, and the page tells of all."""

    exit_code = 12
