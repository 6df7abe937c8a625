"""Which CM script a page is for: this package's own, or the one that CM finds for tags."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from cmx4trt.cm.setup import run_cm, script_folder
from cmx4trt.errors import RequestError
from cmx4trt.gui.form import form_from_meta, read_meta
from cmx4trt.gui.line import values_from_variations

_SHOWN = 4
"""Number of script names in an error."""


@dataclass(frozen=True, slots=True)
class Script:
    """The folder of a script, the tags that select it, and the variations requested with them."""

    folder: str
    tags: tuple[str, ...]
    variations: tuple[str, ...] = ()


def own_script() -> Script:
    """This package's script, with all of its tags, the last of which is unique. Raises CmxError."""
    folder = script_folder()
    return Script(folder, form_from_meta(read_meta(folder)).tags)


def script_from_tags(text: str, ask: Callable[..., str] = run_cm) -> Script:
    """The one script that CM finds for ``text``: tags, and variations with their underscore. Raises CmxError.

    ``ask``: runs ``cm`` with these words and returns its output.
    """
    words = [word for word in re.split(r"[\s,]+", text) if word]
    tags = tuple(word for word in words if not word.startswith("_"))
    variations = tuple(word[1:] for word in words if word.startswith("_"))
    if not tags:
        raise RequestError(f"script is '{text}', expected the tags of a CM script, separated by commas or spaces")
    # Found by the same command that will run it: CM caches where scripts are.
    said = [line.strip() for line in ask("find", "script", f"--tags={','.join(tags)}").splitlines()]
    folders = [line for line in said if line and os.path.isfile(os.path.join(line, "_cm.yaml"))]
    if not folders:
        raise RequestError(f"CM knows no script with the tags {','.join(tags)}; see 'cm find script --tags=…'")
    if len(folders) > 1:
        names = sorted(os.path.basename(folder) for folder in folders)
        shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        raise RequestError(f"CM knows {len(folders)} scripts with the tags {','.join(tags)} ({shown}); give more tags")
    script = Script(folders[0], tags, variations)
    values_from_variations(form_from_meta(read_meta(script.folder)), variations)
    return script
