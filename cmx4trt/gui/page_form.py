"""The form as widgets: one per field, by its kind; only Streamlit's page imports this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cmx4trt.gui.engines import folder_from_text
from cmx4trt.gui.form import Field, Form, Kind
from cmx4trt.gui.line import Value
from cmx4trt.gui.text import plain

_AUTOMATIC = "automatic"
_MANY = 8
"""From this number on, switches become one multiple-choice list."""

Values = dict[str, Value]


def show_form(form: Form, presets: Values) -> Values:
    """Show every field and return the values by key; ``presets`` are the initial values."""
    values: Values = {}
    _show_groups(form, presets, values)
    _show_variations(form, presets, values)
    chosen = _chosen(form, values)
    always = [section for section in form.sections if not section.only_with]
    matter = [section for section in form.sections if chosen & set(section.only_with)]
    others = [section for section in form.sections if section not in always and section not in matter]
    for section in (*always, *matter):
        with st.container(border=True):
            st.markdown(f"**{plain(section.title)}**")
            _show_fields(section.fields, presets, values)
    if others:
        with st.expander("Advanced: options for other settings"):
            for section in others:
                st.markdown(f"**{plain(section.title)}**")
                _show_fields(section.fields, presets, values)
    return values


def _chosen(form: Form, values: Values) -> set[str]:
    """The variations in effect, chosen or by default."""
    groups = {field.name: str(values[field.key]) for field in form.groups if values.get(field.key)}
    return {*form.automatic(groups).values(), *(f.name for f in form.variations if values.get(f.key))}


def _pairs(fields: Sequence[Field]) -> Iterator[tuple[Field, DeltaGenerator]]:
    """Each field with its column: two side by side, or stacked on a phone."""
    for index in range(0, len(fields), 2):
        row = st.columns(2) if len(fields) > 1 else [st.container()]
        yield from zip(fields[index : index + 2], row, strict=False)


def _show_groups(form: Form, presets: Values, values: Values) -> None:
    notes = {}
    for field, place in _pairs(form.groups):
        with place.container(border=True, height="stretch"):
            values[field.key] = _group(field, presets.get(field.key))
            notes[field.name] = st.empty()
    chosen = {field.name: str(values[field.key]) for field in form.groups if values.get(field.key)}
    holds = form.automatic(chosen)
    for field in form.groups:
        choice = holds.get(field.name)
        text = field.note(choice)
        if choice and field.name not in chosen:
            text = f"{_AUTOMATIC.capitalize()} means {choice}" + (f": {text}" if text else "")
        if text:
            notes[field.name].caption(plain(text))


def _group(field: Field, preset: Value) -> Value:
    options = [*([] if field.default else [_AUTOMATIC]), *field.choices]
    start = options.index(str(preset or field.default or _AUTOMATIC))
    if len(options) > _MANY:
        value = st.selectbox(field.label, options, start, key=field.key, persist_state="session")
    else:
        value = st.radio(field.label, options, start, key=field.key, horizontal=True, persist_state="session")
    return None if value == _AUTOMATIC else value


def _show_variations(form: Form, presets: Values, values: Values) -> None:
    if not form.variations:
        return
    switches = [field for field in form.variations if field.kind is Kind.SWITCH]
    with st.container(border=True):
        if len(switches) > _MANY:
            names = {field.name: field for field in switches}
            start = [name for name, field in names.items() if presets.get(field.key)]
            chosen = st.multiselect("Variations", list(names), start, key="variations", persist_state="session")
            values.update({field.key: name in chosen for name, field in names.items()})
        shown = [field for field in form.variations if field.key not in values]
        for field, place in _pairs(sorted(shown, key=lambda field: field.kind is not Kind.VALUE)):
            with place:
                values[field.key] = _variation(field, presets.get(field.key))


def _variation(field: Field, preset: Value) -> Value:
    if field.kind is Kind.VALUE:
        return st.text_input(
            field.label,
            preset if isinstance(preset, str) else "",
            key=field.key,
            placeholder=str(field.default or field.help),
            help=plain(field.help) or None,
            persist_state="session",
        )
    on = st.checkbox(field.label, bool(preset), key=field.key, persist_state="session")
    if field.help:
        st.caption(plain(field.help))
    if field.kind is Kind.SWITCH or not on:
        return on
    text = st.text_input(
        f"{field.label}, value",
        preset if isinstance(preset, str) else "",
        key=f"{field.key}:value",
        placeholder=field.value_help or "optional",
        help=plain(field.value_help) or None,
        persist_state="session",
    )
    return text.strip() or True


def _show_fields(fields: tuple[Field, ...], presets: Values, values: Values) -> None:
    for field, place in _pairs(fields):
        with place:
            values[field.key] = _input(field, presets.get(field.key))


def _input(field: Field, preset: Value) -> Value:
    help = plain(field.help) or None
    if field.kind is Kind.BOOLEAN:
        start = bool(field.default if preset is None else preset)
        return st.checkbox(field.label, start, key=field.key, help=help, persist_state="session")
    if field.kind is Kind.CHOICE:
        chosen = preset or field.default
        index = field.choices.index(chosen) if isinstance(chosen, str) and chosen in field.choices else None
        return st.selectbox(
            field.label,
            field.choices,
            index,
            key=field.key,
            placeholder="automatic",
            help=help,
            persist_state="session",
        )
    return st.text_input(
        field.label,
        preset if isinstance(preset, str) else "",
        key=field.key,
        placeholder=str(field.default or field.help),
        help=help,
        persist_state="session",
    )


def folder_of_engines(form: Form, values: Values, start: str) -> str:
    """Where the form's engines are published: ``output_dir``, relative to the folder in which runs start. Raises RequestError."""
    field = next((field for field in form.fields() if field.name == "output_dir"), None)
    if field is None:
        return start
    return folder_from_text(str(values.get(field.key) or field.default), start)
