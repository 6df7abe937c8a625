"""TensorRT's timing cache in a file: kernel timings that later builds need not measure again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cmx4trt.base.files import make_folder, open_file, remove_abandoned, write_atomic
from cmx4trt.base.locks import lock_folder
from cmx4trt.errors import OutputError

if TYPE_CHECKING:
    import tensorrt

    from cmx4trt.base.progress import Progress

_SETTING = "--timing_cache"


class TimingCache:
    """One file and the builder configuration it was attached to."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._config: tensorrt.IBuilderConfig | None = None
        self._bytes_read = 0
        self._bytes_written = 0

    def attach(self, config: tensorrt.IBuilderConfig, progress: Progress) -> None:
        """Attach the timings in the file to ``config``, or none; a file for another version or GPU is ignored, with a note."""
        data = self._read()
        cache = config.create_timing_cache(data)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            if data:
                progress.note(
                    f"the timing cache {self._path} is for another library version or GPU; starting a new one"
                )
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
        else:
            self._bytes_read = len(data)
        self._config = config

    def save(self, progress: Progress, wait: float) -> None:
        """Write all timings, including those that another process saved meanwhile; waits ``wait`` seconds for its lock.

        If they cannot be written, ``progress`` gets a note: the engine does not depend on them.
        """
        try:
            self._save(progress, wait)
        except OutputError as error:
            progress.note(f"the kernel timings of this build were not saved: {error}")

    def _save(self, progress: Progress, wait: float) -> None:
        assert self._config is not None
        folder = os.path.dirname(self._path)
        make_folder(folder, _SETTING)
        cache = self._config.get_timing_cache()
        with lock_folder(folder, progress, wait, _SETTING):
            remove_abandoned(folder)
            other = self._config.create_timing_cache(self._read())
            if other is not None:
                cache.combine(other, ignore_mismatch=False)
            serialized: Any = cache.serialize()
            write_atomic(self._path, serialized, _SETTING)
        self._bytes_written = memoryview(serialized).nbytes

    def to_dict(self) -> dict[str, Any]:
        """The record for the manifest: path, and bytes reused and written."""
        return {"path": self._path, "bytes_reused": self._bytes_read, "bytes_written": self._bytes_written}

    def _read(self) -> bytes:
        try:
            with open_file(self._path) as stream:
                return stream.read()
        except OSError:
            return b""
