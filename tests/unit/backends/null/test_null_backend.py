"""The backend that does nothing, in the place of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cmx4trt.backends import names, registered
from cmx4trt.backends.null import NullBackend
from cmx4trt.errors import ModelError, RequestError
from cmx4trt.pipeline.build import build
from cmx4trt.requests.build import BuildRequest


def test_an_engine_is_built_published_and_opened(tmp_path: Path) -> None:
    values = {"builder": "null", "random_weights": 1, "batch_size": 5, "copy_streams": 3, "output_dir": tmp_path}
    with registered(NullBackend()):
        result = build(BuildRequest.from_values({**values, "verify": False, "report": False}))
    session = NullBackend().open_session(Path(result.engine).read_bytes())
    assert (session.max_batch, len(session.streams())) == (5, 3)
    np.testing.assert_array_equal(session.run({})["class"], np.zeros(5))


def test_it_is_there_only_where_it_was_put() -> None:
    assert "null" not in names()
    with pytest.raises(RequestError, match="builder is 'null', expected one of"):
        BuildRequest.from_values({"builder": "null"})


@pytest.mark.parametrize("engine", [b"", b"[]", b"{}", b'{"batch_size": "many", "copy_streams": 1}', b"\xff"])
def test_other_bytes_are_no_engine(engine: bytes) -> None:
    with pytest.raises(ModelError, match="this is not an engine of the builder null"):
        NullBackend().open_session(engine)
