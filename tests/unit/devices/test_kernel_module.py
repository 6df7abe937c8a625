from __future__ import annotations

from pathlib import Path

from cmx4trt.devices.kernel_module import driver_version


def test_the_version_is_what_the_kernel_shows(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("580.159.04\n")
    assert driver_version(str(tmp_path / "version")) == "580.159.04"


def test_where_the_kernel_shows_none_it_is_empty(tmp_path: Path) -> None:
    assert driver_version(str(tmp_path / "version")) == ""
