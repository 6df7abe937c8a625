"""CmrRuns, engines and reports on the page; only Streamlit's page imports this."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from functools import partial

import streamlit as st

from cmx4trt.base.files import open_file
from cmx4trt.errors import CmxError
from cmx4trt.gui.engines import EngineRecord, engines_in, folder_from_text
from cmx4trt.gui.runner import CmrRun, Outcome
from cmx4trt.gui.text import plain, printable

_REFRESH = 0.5
"""Seconds between polls of a running process."""
_LOG_HEIGHT = 280
_REPORT_HEIGHT = 900
"""Pixels."""
_MANIFEST_KEY = "CM_MLPERF_ENGINE_MANIFEST_WITH_PATH"


def show_run(run: CmrRun, own: bool) -> None:
    """The run in progress, and its results."""
    outcome = run.outcome
    st.fragment(_show_progress, run_every=None if outcome else _REFRESH)(run)
    if outcome is None:
        return
    if outcome.exit_code == 0:
        _show_success(outcome, own)
    elif outcome.stopped:
        st.warning(f"Stopped: {plain(outcome.error)}")
    else:
        st.error(f"{plain(outcome.error)} (exit code {outcome.exit_code})")


def _show_progress(run: CmrRun) -> None:
    outcome, seconds = run.outcome, f"{run.seconds:.0f} s"
    if outcome is None:
        label, state = f"{'Stopping after' if run.stopping else 'Running for'} {seconds}", "running"
    elif outcome.exit_code == 0:
        label, state = f"Finished in {seconds}", "complete"
    else:
        label, state = f"Ended after {seconds}", "error"
    # Not as a context manager: on exit Streamlit would mark a running status as complete.
    status = st.status(label, expanded=outcome is None, state=state)  # type: ignore[arg-type]
    if stages := run.stages():
        with status.container(horizontal=True):
            for stage in stages:
                if stage.seconds is None:
                    st.badge(f"{plain(stage.name)} … {run.seconds_of(stage):.0f} s", color="blue")
                else:
                    color = "red" if stage.failed else "green"
                    st.badge(f"{plain(stage.name)} {stage.seconds:.1f} s", color=color)  # type: ignore[arg-type]
    if step := run.step:
        status.progress(min(step.done / step.total, 1.0), f"{plain(step.name)}: {step.done} of {step.total}")
    with status.container(height=_LOG_HEIGHT, autoscroll=True):
        st.code(run.log() or "…", language=None, wrap_lines=True)
    if outcome is None:
        name = "Stopping…" if run.stopping else "Stop"
        st.button(name, key="stop", icon=":material/stop_circle:", disabled=run.stopping, on_click=run.stop)
    elif st.session_state.get("watched") == run.id:
        st.session_state["watched"] = ""
        st.rerun()  # the whole page: the run is over
    if outcome is None:
        st.session_state["watched"] = run.id


def _show_success(outcome: Outcome, own: bool) -> None:
    manifest = str(outcome.exports.get(_MANIFEST_KEY) or "")
    if own and manifest:
        reused = outcome.exports.get("CM_MLPERF_ENGINE_REUSED") == "yes"
        st.success("An engine that matches this request already exists." if reused else "The engine was built.")
        _show_manifest(manifest, partial(_show_published, manifest))
        return
    st.success("Done. See the log above for the results.")
    if outcome.exports:
        st.markdown("**Exported keys**")
        st.json(dict(outcome.exports))


def _show_published(manifest: str) -> None:
    record = EngineRecord.read(manifest)
    st.subheader(plain(record.title()), anchor=False)
    show_engine(record, "run")


def _show_manifest(path: str, show: Callable[[], None]) -> None:
    """``show`` the manifest. It may contain anything: if it cannot be shown, there is a sentence instead."""
    try:
        show()
    except Exception as error:
        st.error(f"The manifest {plain(path)} cannot be shown ({plain(f'{type(error).__name__}: {error}')}).")


def show_engine(record: EngineRecord, key: str) -> None:
    """An engine: its facts, its report, its manifest. ``key`` distinguishes places on the page."""
    if doubt := record.doubt():
        st.warning(f"{plain(doubt)}; the manifest describes another file.")
    rows = [f"| {plain(name)} | {plain(value)} |" for name, value in record.facts()]
    with st.container(key=f"facts {key}"):
        st.markdown("\n".join(["| | |", "|---|---|", *rows]))
    report = _read(record.report)
    with st.container(horizontal=True):
        if report is not None:
            name = printable(os.path.basename(record.report))
            st.download_button("Report (HTML)", report, name, "text/html", key=f"{key}:report", on_click="ignore")
        name, text = printable(os.path.basename(record.manifest_path)), printable(record.manifest.to_json())
        st.download_button("Manifest (JSON)", text, name, "application/json", key=f"{key}:json", on_click="ignore")
    with st.expander("Manifest: everything known about this engine"):
        st.json(text, expanded=1)
    if report is None:
        st.info(f"There is no report beside this engine; expected at {plain(record.report)}")
    else:
        # A data URL has its own origin: the content of the file cannot reach this page.
        address = "data:text/html;charset=utf-8;base64," + base64.b64encode(report).decode()
        st.iframe(address, height=_REPORT_HEIGHT, alt=printable(f"Report of {record.title()}"))


def _read(path: str) -> bytes | None:
    try:
        with open_file(path) as stream:
            return stream.read()
    except OSError:
        return None


def show_engines(folder: str, start: str) -> None:
    """The engines in a folder that can be changed on the page; a relative path is relative to ``start``."""
    asked = st.text_input("Folder", printable(folder), help="Engines in this folder and below, newest first.")
    try:
        engines = engines_in(folder if asked.strip() in ("", printable(folder)) else folder_from_text(asked, start))
    except CmxError as error:
        st.error(plain(str(error)))
        return
    if not engines.records:
        st.info("No engines here yet.")
    for sentence in engines.damaged:
        st.error(plain(printable(sentence)))
    for record in engines.records:
        _show_manifest(record.manifest_path, partial(_show_card, record))


def _show_card(record: EngineRecord) -> None:
    request = record.manifest.request
    facts = dict(record.facts())
    with st.container(border=True):
        st.markdown(f"**{plain(record.title())}**")
        report = "report" if os.path.isfile(record.report) else "no report"
        words = (
            request.scenario,
            f"for {facts['For GPUs']}",
            facts["Size"],
            record.verdict(),
            report,
            facts["Built with"],
        )
        st.caption(plain(" · ".join((*words, facts["Created"]))))
        key = printable(f"show:{record.manifest_path}")
        if st.toggle("Show", key=key):
            show_engine(record, key)
