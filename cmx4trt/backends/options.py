"""The part of a request that backends read: the field names are those of the options. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class BuildOptions(Protocol):
    """The options of a build, as in ``BuildRequest``: validated, sizes in bytes, paths absolute, None if not given."""

    @property
    def network(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def scenario(self) -> str: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def copy_streams(self) -> int: ...  # noqa: D102
    @property
    def model(self) -> str | None: ...  # noqa: D102
    @property
    def random_weights(self) -> int | None: ...  # noqa: D102
    @property
    def target(self) -> str: ...  # noqa: D102
    @property
    def workspace_size(self) -> int: ...  # noqa: D102
    @property
    def input_dtype(self) -> str: ...  # noqa: D102
    @property
    def output_dtype(self) -> str: ...  # noqa: D102
    @property
    def keep_fp16(self) -> str | None: ...  # noqa: D102
    @property
    def wait(self) -> int: ...  # noqa: D102
    @property
    def output_dir(self) -> str: ...  # noqa: D102
    @property
    def own(self) -> Mapping[str, Any]: ...  # noqa: D102
