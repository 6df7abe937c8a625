"""The report that a build leaves beside its engine. An engine is never lost because of it."""

from __future__ import annotations

import os
from contextlib import suppress

from cmx4trt.base.progress import Progress
from cmx4trt.report.writing import is_report, write_page
from cmx4trt.store import folder as store


def get_ready() -> None:
    """Preload what a report needs and is slow to import; a failure here recurs, and is reported, when the report is written."""
    with suppress(Exception):
        from cmx4trt.report.plots import load_matplotlib

        load_matplotlib()


def report_after_build(paths: store.EnginePaths, progress: Progress) -> str:
    """Write the report of the engine just published or found. Returns its path, or nothing if it could not be written.

    A report newer than the manifest is kept. Only an interruption is raised; it says that the engine has been published.
    """
    path = store.report_path_of(paths.engine)
    if _is_current(path, paths.manifest):
        return path
    try:
        with progress.stage("report"):
            written = _write(paths.engine, path, progress)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("interrupted; the engine has been published, its report has not been written") from stop
    if not written:
        remove_outdated_report(paths)
    return path if written else ""


def refresh_report(engine: str, progress: Progress) -> None:
    """Rewrite the report of an engine, if it has one, because LoadGen has left new results beside it."""
    path = store.report_path_of(engine)
    if os.path.exists(path):
        _write(engine, path, progress)


def _write(engine: str, path: str, progress: Progress) -> bool:
    """Whether the report could be written; if not, a note says why."""
    try:
        from cmx4trt.report.facts import facts_of_engine
        from cmx4trt.report.gpu_choice import gpu_of_engines
        from cmx4trt.report.page import page_of_engine

        facts = facts_of_engine(engine)
        write_page(path, page_of_engine(facts, gpu_of_engines([facts]), progress.note))
        return True
    except Exception as error:  # including a broken plotting library: whatever fails, the engine has been published
        reason = " ".join(str(error).split()) or type(error).__name__
        progress.note(
            f"the engine has been published, but its report could not be written ({reason}); retry with 'cmx4trt report'"
        )
        return False


def remove_outdated_report(paths: store.EnginePaths) -> None:
    """Remove our report of the engine that was here before."""
    path = store.report_path_of(paths.engine)
    with suppress(OSError):
        if not _is_current(path, paths.manifest) and is_report(path):
            os.unlink(path)


def _is_current(path: str, manifest: str) -> bool:
    """Whether there is a report of ours that is newer than the manifest."""
    try:
        return os.stat(path).st_mtime_ns >= os.stat(manifest).st_mtime_ns and is_report(path)
    except OSError:
        return False
