"""The page itself: Streamlit runs this file from the top at every click, with the settings as its only argument."""

from __future__ import annotations

import sys

import streamlit as st

from cmx4trt.errors import CmxError
from cmx4trt.gui.form import Form, form_from_meta, read_meta
from cmx4trt.gui.line import CmrLine, check_values, line_from_values, values_from_variations
from cmx4trt.gui.page_form import Values, folder_of_engines, show_form
from cmx4trt.gui.page_results import show_engines, show_run
from cmx4trt.gui.runner import RUNS, CmrRun
from cmx4trt.gui.settings import PageSettings
from cmx4trt.gui.text import plain

_RUN = "run"
"""Name of the query parameter with the id of the run, so that a reloaded page finds it again."""
_PRESETS = "presets"
"""Key in Streamlit's session state: the initial values of the form when it comes from a run."""

_NEXT_LINE = " \\\n  "
"""Between flags, so that a long command can be read, copied and typed."""

_STYLE = """
<style>
[data-testid="stMainBlockContainer"] { max-width: 78rem; padding-top: 2.5rem; padding-bottom: 3rem; }
@media (min-width: 640px) { .st-key-command { position: sticky; top: 1rem; } }
[class*="st-key-facts"] thead { display: none; }
[class*="st-key-facts"] td:last-child { overflow-wrap: anywhere; }
[class*="st-key-facts"] td:first-child { white-space: nowrap; }
@media (prefers-color-scheme: dark) { [role="tab"] { color: inherit !important; } }
</style>
"""
"""Streamlit has no settings for these: the command stays in view beside a long form; a table of facts has no header, and long
paths in it wrap; a green dark enough behind white text is too dark for text on a dark page (that of the selected tab)."""


def main() -> None:
    """The whole page."""
    settings = PageSettings.from_json(sys.argv[1])
    form = form_from_meta(read_meta(settings.script))
    title = settings.title or form.title
    st.set_page_config(page_title=title, layout="wide")
    st.html(_STYLE)
    st.subheader(plain(title), anchor=False)
    if not settings.own:
        _show_build(settings, form)
        return
    build, engines = st.tabs(["Build", "Engines"])
    with build:
        values = _show_build(settings, form)
    with engines:
        show_engines(folder_of_engines(form, values, settings.folder), settings.folder)


def _show_build(settings: PageSettings, form: Form) -> Values:
    """The form and its command, or the run that was started from it."""
    run = RUNS.find(st.query_params.get(_RUN))
    if run is not None:
        _show_run(settings, run)
        return run.values
    left, right = st.columns([3, 2], gap="medium")
    with left:
        values = show_form(form, st.session_state.get(_PRESETS) or values_from_variations(form, settings.variations))
    with right.container(border=True, key="command"):
        _show_command(settings, form, values)
    return values


def _show_command(settings: PageSettings, form: Form, values: Values) -> None:
    """The current command, and the button that runs it."""
    line = line_from_values(form, settings.tags, values)
    st.markdown("**Command**")
    st.code(line.shell(_NEXT_LINE), language="bash", wrap_lines=True)
    try:
        check_values(form, values)
    except CmxError as error:
        st.error(plain(str(error)))
        return
    if not settings.may_run:
        return
    name = "Build" if settings.own else "Run"
    if st.button(name, type="primary", icon=":material/play_arrow:", width="stretch"):
        _start_run(settings, line, values)
    st.caption(f"{name} runs this command in the folder {plain(settings.folder)}, as if typed in a shell there.")


def _start_run(settings: PageSettings, line: CmrLine, values: Values) -> None:
    """Start the command and show its run; if it could not be started, say why, and which runs can be stopped."""
    try:
        _go_to(RUNS.start(line, settings.folder, values))
    except CmxError as error:
        st.error(plain(str(error)))
        for run in RUNS.running():
            label = f"The run started {run.seconds:.0f} s ago"
            st.button(label, key=run.id, icon=":material/hourglass:", width="stretch", on_click=_go_to, args=(run,))
        return
    st.rerun()


def _go_to(run: CmrRun) -> None:
    """Make the page show this run from the next rerun of Streamlit on."""
    st.query_params[_RUN] = run.id


def _show_run(settings: PageSettings, run: CmrRun) -> None:
    st.code(run.line.shell(_NEXT_LINE), language="bash", wrap_lines=True)
    if run.outcome is not None and st.button("Back to the form", icon=":material/arrow_back:"):
        st.session_state[_PRESETS] = run.values  # a reloaded page has lost the form's values
        del st.query_params[_RUN]
        st.rerun()
    show_run(run, settings.own)


try:
    main()
except CmxError as error:
    st.error(plain(str(error)))
