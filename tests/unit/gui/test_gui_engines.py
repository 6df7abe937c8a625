"""The list of engines of a folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from manifests import MANIFEST, publish_manifest

from cmx4trt.base.verdicts import FAILED, PASSED, SKIPPED
from cmx4trt.errors import RequestError
from cmx4trt.gui.engines import MAX_ENGINES, EngineRecord, Engines, engines_in, folder_from_text


def test_facts(tmp_path: Path) -> None:
    record = EngineRecord.read(str(publish_manifest(tmp_path)))
    assert record.title() == "ResNet-50 v1.5 · FP16 · batch 4"
    facts = dict(record.facts())
    assert facts["Network"] == "ResNet-50 v1.5, random weights"
    assert (facts["Batch"], facts["For GPUs"], facts["Size"]) == ("1 to 4", "portable", "51.9 MB")
    assert (facts["Graph"], facts["Run on a GPU"]) == ("verified", "not yet")
    assert facts["Created"] == "2026-11-23 22:15:25 UTC"
    assert record.report == str(tmp_path / "a.report.html")


def test_a_manifest_that_somebody_edited_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    publish_manifest(tmp_path, "sound")
    path = publish_manifest(tmp_path, "odd")
    path.write_text(path.read_text().replace("51918196", '"many"'))
    found = engines_in(str(tmp_path))
    assert [Path(record.engine).stem for record in found.records] == ["sound"]
    assert found.damaged == [
        f"manifest {path} was damaged or edited (engine.bytes is 'many', expected a whole number); build the engine again"
    ]


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (PASSED, "verified"),
        (FAILED, "differs from the original model"),
        (SKIPPED, "not verified"),
    ],
)
def test_verdicts(tmp_path: Path, verdict: str, words: str) -> None:
    assert EngineRecord.read(str(publish_manifest(tmp_path, verification={"verdict": verdict}))).verdict() == words


def test_a_file_that_was_edited(tmp_path: Path) -> None:
    path = publish_manifest(tmp_path)
    data = b"engine"
    good = {"file": "a.plan", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps({**MANIFEST, "engine": good}))
    assert EngineRecord.read(str(path)).doubt() == ""
    (tmp_path / "a.plan").write_bytes(b"edited")
    assert "is not the file that was published" in EngineRecord.read(str(path)).doubt()


def test_newest_first_and_only_engines(tmp_path: Path) -> None:
    publish_manifest(tmp_path / "x", "old", created="2026-01-01T00:00:00+00:00")
    publish_manifest(tmp_path / "y" / "z", "new", created="2026-02-01T00:00:00+00:00")
    publish_manifest(tmp_path / "y", "gone")
    (tmp_path / "y" / "gone.plan").unlink()
    (tmp_path / "y" / "other.json").write_text("{}")
    (tmp_path / "y" / "other.plan").write_text("")
    (tmp_path / "y" / "broken.json").write_text("{")
    (tmp_path / "y" / "broken.plan").write_text("")
    (tmp_path / "y" / "nested.json").write_text("[" * 100_000)
    (tmp_path / "y" / "nested.plan").write_text("")
    (tmp_path / "y" / "settings.json").write_text(json.dumps(MANIFEST))
    assert [Path(record.engine).stem for record in engines_in(str(tmp_path)).records] == ["new", "old"]


def test_folders_without_engines(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert engines_in(str(tmp_path)) == engines_in(str(tmp_path / "gone")) == Engines([], [])
    with pytest.raises(RequestError, match="is not a folder"):
        engines_in(str(tmp_path / "file"))


def test_folders_that_people_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder_from_text(" engines ", "/start") == "/start/engines"
    assert folder_from_text("/else/where", "/start") == "/else/where"
    assert folder_from_text("~/engines", "/start") == str(tmp_path / "engines")
    for text in ("a\0b", "~\0"):
        with pytest.raises(RequestError, match="contains a NUL character"):
            folder_from_text(text, "/start")


def test_a_page_has_an_end(tmp_path: Path) -> None:
    for number in range(MAX_ENGINES + 2):
        publish_manifest(tmp_path, f"e{number}", created=f"2026-01-01T00:00:{number:04}+00:00")
    found = engines_in(str(tmp_path)).records
    assert len(found) == MAX_ENGINES
    assert Path(found[0].engine).stem == f"e{MAX_ENGINES + 1}"
