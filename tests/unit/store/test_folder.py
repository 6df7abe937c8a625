from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cmx4trt.base.background import Background
from cmx4trt.base.digests import digests_of, sha256_of_file
from cmx4trt.base.progress import Silent
from cmx4trt.base.verdicts import PASSED, SKIPPED
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store import folder as store
from cmx4trt.store.fingerprint import SOURCE, engine_parts, fingerprint_of
from cmx4trt.store.manifest import Manifest

BUILDER = {"name": "tensorrt-rtx", "version": "1.7"}
ENGINE = b"engine" * 1000


def request_in(folder: Path, **values: object) -> BuildRequest:
    return BuildRequest.from_values({"output_dir": folder, "random_weights": 1, **values})


def manifest_for(request: BuildRequest, source: str = "s", verdict: str = PASSED) -> Manifest:
    parts = {**engine_parts(request, BUILDER), SOURCE: source}
    empty: dict[str, object] = {}
    return Manifest(
        fingerprint_of(parts),
        parts,
        empty,
        empty,
        {"kind": "seed"},
        empty,
        empty,
        empty,
        {"verdict": verdict, **({"method": "compared"} if verdict == PASSED else {"reason": "switched off"})},
        empty,
        {},
        "now",
        empty,
    )


def publish(request: BuildRequest, data: bytes = ENGINE, **keywords: str) -> Manifest:
    digest = Background(lambda: digests_of(data))
    paths, manifest = store.EnginePaths.for_request(request), manifest_for(request, **keywords)
    return store.publish(paths, data, digest, manifest, 1.0, Silent())


def find(request: BuildRequest, source: str = "s", builder: dict[str, str] = BUILDER) -> store.Lookup:
    return store.find(
        request, store.EnginePaths.for_request(request), engine_parts(request, builder), lambda record: source
    )


def test_paths_follow_the_design(tmp_path: Path) -> None:
    request = request_in(tmp_path, scenario="Server", batch_size=16, target="ada,sm86", precision="bf16")
    paths = store.EnginePaths.for_request(request)
    stem = tmp_path / "sm86+sm89/resnet50/Server/resnet50-Server-gpu-b16-bf16.tensorrt-rtx"
    assert paths == store.EnginePaths(f"{stem}.plan", f"{stem}.json")


def test_a_published_engine_is_found_with_its_manifest(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    assert find(request) == store.Lookup()
    published = publish(request)
    found = find(request).manifest
    assert found is not None
    assert found.to_json() == published.to_json()
    path = store.EnginePaths.for_request(request).engine
    assert Path(path).read_bytes() == ENGINE
    assert found.engine["sha256"] == sha256_of_file(path)
    assert sorted(os.listdir(Path(path).parent)) == sorted(
        [os.path.basename(path), os.path.basename(path)[:-4] + "json"]
    )


@pytest.mark.parametrize(
    "change",
    [
        {"copy_streams": 2},
        {"workspace_size": "1GiB"},
        {"input_dtype": "fp16"},
        {"output_dtype": "fp16"},
    ],
)
def test_any_other_option_at_the_same_path_misses(tmp_path: Path, change: dict[str, object]) -> None:
    publish(request_in(tmp_path))
    other = request_in(tmp_path, **change)
    assert store.EnginePaths.for_request(other) == store.EnginePaths.for_request(request_in(tmp_path))
    assert find(other) == store.Lookup()


def test_another_source_or_library_misses(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    publish(request)
    assert find(request, source="other") == store.Lookup()
    assert find(request, builder={**BUILDER, "version": "1.8"}) == store.Lookup()


def test_another_recipe_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_in(tmp_path)
    publish(request)
    monkeypatch.setattr("cmx4trt.store.fingerprint.RECIPE", 999)
    assert find(request) == store.Lookup()


def test_verification_is_required_only_when_asked_for(tmp_path: Path) -> None:
    publish(request_in(tmp_path), verdict=SKIPPED)
    assert find(request_in(tmp_path)) == store.Lookup()
    assert find(request_in(tmp_path, verify=False)).manifest is not None


def test_the_source_is_not_asked_for_when_something_else_differs(tmp_path: Path) -> None:
    publish(request_in(tmp_path))
    request = request_in(tmp_path, copy_streams=2)

    def source(record: object) -> str:
        raise AssertionError("read the model file for nothing")

    paths = store.EnginePaths.for_request(request)
    assert store.find(request, paths, engine_parts(request, BUILDER), source) == store.Lookup()


@pytest.mark.parametrize(
    "damage", ["truncate", "edit", "empty", "remove_manifest", "garbage_manifest", "nested_manifest", "edit_manifest"]
)
def test_every_doubt_is_a_miss_with_a_reason(tmp_path: Path, damage: str) -> None:
    request = request_in(tmp_path)
    publish(request)
    paths = store.EnginePaths.for_request(request)
    engine, manifest = Path(paths.engine), Path(paths.manifest)
    if damage == "truncate":
        engine.write_bytes(ENGINE[:-1])
    elif damage == "edit":
        engine.write_bytes(b"X" + ENGINE[1:])
    elif damage == "empty":
        engine.write_bytes(b"")
    elif damage == "remove_manifest":
        manifest.unlink()
    elif damage == "garbage_manifest":
        manifest.write_text("{")
    elif damage == "nested_manifest":
        manifest.write_text("[" * 100_000)
    else:
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema": "other/2"}))
    lookup = find(request)
    assert lookup.manifest is None
    assert str(tmp_path) in lookup.doubt


def test_an_engine_copied_elsewhere_is_still_good(tmp_path: Path) -> None:
    publish(request_in(tmp_path / "a"))
    os.rename(tmp_path / "a", tmp_path / "b")
    engine = Path(store.EnginePaths.for_request(request_in(tmp_path / "b")).engine)
    content = engine.read_bytes()
    engine.unlink()
    engine.write_bytes(content)
    assert find(request_in(tmp_path / "b")).manifest is not None


@pytest.mark.parametrize("name", ["../../elsewhere/x.plan", "/etc/x.plan"])
def test_a_manifest_names_no_file_outside_its_folder(tmp_path: Path, name: str) -> None:
    manifest = replace(manifest_for(request_in(tmp_path)), engine={"file": name})
    assert store.engine_path_of(str(tmp_path / "x.json"), manifest) == str(tmp_path / "x.plan")


def test_the_first_of_two_equal_publications_stays(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    first = publish(request)
    second = publish(request, data=b"built at the same time")
    assert second.to_json() == first.to_json()
    assert Path(store.EnginePaths.for_request(request).engine).read_bytes() == ENGINE


def test_a_killed_publication_leaves_a_miss(tmp_path: Path) -> None:
    """Engine in place, manifest not: as after SIGKILL between the two renames."""
    request = request_in(tmp_path)
    publish(request)
    Path(store.EnginePaths.for_request(request).engine).write_bytes(b"a newer engine")
    assert "truncated or edited" in find(request).doubt


def test_manifest_and_engine_of_different_requests_are_noticed(tmp_path: Path) -> None:
    """As two writers leave them whose locks do nothing: each its own manifest, and one engine."""
    one, other = request_in(tmp_path / "1"), request_in(tmp_path / "2")
    publish(one, data=b"seed 1" * 1000, source="seed 1")
    publish(other, data=b"seed 2" * 1000, source="seed 2")
    os.replace(store.EnginePaths.for_request(other).engine, store.EnginePaths.for_request(one).engine)
    found = find(one, source="seed 1")
    assert found.manifest is None
    assert "is not the file that was published" in found.doubt


def test_manifest_path_of() -> None:
    assert store.manifest_path_of("a/x.rtx.plan") == "a/x.rtx.json"
    assert store.manifest_path_of("a/x.rtx.json") == "a/x.rtx.json"
