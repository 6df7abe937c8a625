"""Keys that nobody types, of whoever sets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cmx4trt import backends
from cmx4trt.cm.hooks import CM
from cmx4trt.errors import RequestError
from cmx4trt.frameworks.input import check_exports
from cmx4trt.frameworks.keys import internal_keys


def test_a_key_that_nobody_sets_is_refused() -> None:
    for key in sorted(internal_keys()):
        check_exports(CM, {}, {key: "yes"}, {}, {}, internal_keys())
    with pytest.raises(RequestError, match="unknown environment key CMX4TRT_HAVE_NOTHING"):
        check_exports(CM, {}, {"CMX4TRT_HAVE_NOTHING": "yes"}, {}, {}, internal_keys())


def test_a_backends_own_libraries_have_their_keys(stand_in: Callable[..., None]) -> None:
    """Else the second engine of a script would be refused: the first left the key in its environment."""
    assert "CMX4TRT_HAVE_SPECIAL" not in internal_keys()
    one = backends.all_backends()[0]
    stand_in(one.name, cm=replace(one.cm, modules={"SPECIAL": "special"}))
    assert "CMX4TRT_HAVE_SPECIAL" in internal_keys()
