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
from cmx4trt.store.fingerprint import RECIPE, SOURCE, engine_parts, fingerprint_of
from cmx4trt.store.manifest import EngineFile, Manifest

BUILDER = {"name": "tensorrt-rtx", "version": "1.7"}
ENGINE = b"engine" * 1000


def request_in(folder: Path, **values: object) -> BuildRequest:
    return BuildRequest.from_values({"output_dir": folder, "random_weights": 1, **values})


def parts_of(request: BuildRequest, source: str = "s", builder: dict[str, str] = BUILDER) -> dict[str, object]:
    return {**engine_parts(request, builder), SOURCE: source}


def paths_of(request: BuildRequest, source: str = "s") -> store.EnginePaths:
    return store.EnginePaths.of(request, parts_of(request, source))


def manifest_for(request: BuildRequest, source: str = "s", verdict: str = PASSED) -> Manifest:
    parts = parts_of(request, source)
    method = {"method": "compared"} if verdict == PASSED else {"reason": "switched off"}
    return Manifest.from_dict(
        {
            "fingerprint": fingerprint_of(parts),
            "parts": parts,
            "engine": {"file": "", "bytes": 0, "sha256": ""},
            "request": request.to_dict(),
            "source": {"kind": "seed"},
            "network": {"title": "ResNet-50"},
            "builder": BUILDER,
            "graph": {},
            "verification": {"verdict": verdict, **method},
            "execution": {"engine_executed_on_a_device": "no"},
            "stages": {},
            "created": "now",
            "tool": {},
        }
    )


def publish(request: BuildRequest, data: bytes = ENGINE, **keywords: str) -> Manifest:
    digest = Background(lambda: digests_of(data))
    manifest = manifest_for(request, **keywords)
    paths = store.EnginePaths.of(request, manifest.parts)
    return store.publish(
        paths,
        data,
        digest,
        lambda file: replace(manifest, engine=file),
        1.0,
        Silent(),
        fingerprint=manifest.fingerprint,
        judged=manifest.judged,
    )


def find(request: BuildRequest, source: str = "s", builder: dict[str, str] = BUILDER, **parts: object) -> store.Lookup:
    return store.look_up(request, {**parts_of(request, source, builder), **parts})[1]


def test_a_published_engine_is_found_with_its_manifest(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    assert find(request) == store.Lookup()
    published = publish(request)
    found = find(request).manifest
    assert found is not None
    assert found.to_json() == published.to_json()
    path = paths_of(request).engine
    assert Path(path).read_bytes() == ENGINE
    assert found.engine.sha256 == sha256_of_file(path)
    assert sorted(os.listdir(Path(path).parent)) == sorted(
        [os.path.basename(path), os.path.basename(path)[:-4] + "json"]
    )


@pytest.mark.parametrize("change", [{"copy_streams": 2}, {"workspace_size": "1GiB"}, {"input_dtype": "fp16"}])
def test_engines_of_other_options_lie_side_by_side(tmp_path: Path, change: dict[str, object]) -> None:
    one, other = request_in(tmp_path), request_in(tmp_path, **change)
    publish(one)
    assert find(other) == store.Lookup()
    publish(other, data=b"other")
    assert find(one).manifest is not None
    assert find(other).manifest is not None


def test_engines_of_other_models_lie_side_by_side(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    for source in ("blake3:1", "blake3:2", "random-weights:0"):
        publish(request, data=source.encode() * 10, source=source)
    for source in ("blake3:1", "blake3:2", "random-weights:0"):
        path, lookup = store.look_up(request, parts_of(request, source))
        assert lookup.manifest is not None
        assert Path(path.engine).read_bytes() == source.encode() * 10


def test_engines_are_found_where_former_releases_put_them(tmp_path: Path) -> None:
    """As after an update: moved by hand to the name that all of these requests shared."""
    request = request_in(tmp_path, copy_streams=2)
    publish(request)
    paths, former = paths_of(request), store.EnginePaths.former(request)
    assert paths != former
    os.rename(paths.engine, former.engine)
    manifest = json.loads(Path(paths.manifest).read_text())
    manifest["engine"]["file"] = os.path.basename(former.engine)
    Path(former.manifest).write_text(json.dumps(manifest))
    Path(paths.manifest).unlink()
    assert store.look_up(request, parts_of(request))[0] == former
    assert store.look_up(request_in(tmp_path), parts_of(request_in(tmp_path)))[1].manifest is None
    assert Path(former.engine).exists(), "a request that is not its own leaves it"


def test_another_source_or_library_misses(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    publish(request)
    assert find(request, source="other") == store.Lookup()
    assert find(request, builder={**BUILDER, "version": "1.8"}) == store.Lookup()


def test_another_recipe_misses(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    publish(request)
    assert find(request, recipe=RECIPE).manifest is not None
    assert find(request, recipe=RECIPE + 1) == store.Lookup()


def test_verification_is_required_only_when_asked_for(tmp_path: Path) -> None:
    publish(request_in(tmp_path), verdict=SKIPPED)
    assert find(request_in(tmp_path)) == store.Lookup()
    assert find(request_in(tmp_path, verify=False)).manifest is not None


@pytest.mark.parametrize(
    "damage", ["truncate", "edit", "empty", "remove_manifest", "garbage_manifest", "nested_manifest", "edit_manifest"]
)
def test_every_doubt_is_a_miss_with_a_reason(tmp_path: Path, damage: str) -> None:
    request = request_in(tmp_path)
    publish(request)
    paths = paths_of(request)
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
    engine = Path(paths_of(request_in(tmp_path / "b")).engine)
    content = engine.read_bytes()
    engine.unlink()
    engine.write_bytes(content)
    assert find(request_in(tmp_path / "b")).manifest is not None


@pytest.mark.parametrize("name", ["../../elsewhere/x.plan", "/etc/x.plan"])
def test_a_manifest_names_no_file_outside_its_folder(tmp_path: Path, name: str) -> None:
    manifest = replace(manifest_for(request_in(tmp_path)), engine=EngineFile(name, 0, ""))
    assert store.engine_path_of(str(tmp_path / "x.json"), manifest) == str(tmp_path / "x.plan")


def test_the_first_of_two_equal_publications_stays(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    first = publish(request)
    second = publish(request, data=b"built at the same time")
    assert second.to_json() == first.to_json()
    assert Path(paths_of(request).engine).read_bytes() == ENGINE


def test_a_killed_publication_leaves_a_miss(tmp_path: Path) -> None:
    """Engine in place, manifest not: as after SIGKILL between the two renames."""
    request = request_in(tmp_path)
    publish(request)
    Path(paths_of(request).engine).write_bytes(b"a newer engine")
    assert "truncated or edited" in find(request).doubt


def test_manifest_and_engine_of_different_requests_are_noticed(tmp_path: Path) -> None:
    """As two writers leave them whose locks do nothing: each its own manifest, and one engine."""
    one, other = request_in(tmp_path / "1"), request_in(tmp_path / "2")
    publish(one, data=b"seed 1" * 1000, source="seed 1")
    publish(other, data=b"seed 2" * 1000, source="seed 2")
    os.replace(paths_of(other, "seed 2").engine, paths_of(one, "seed 1").engine)
    found = find(one, source="seed 1")
    assert found.manifest is None
    assert "is not the file that was published" in found.doubt


def test_manifest_path_of() -> None:
    assert store.manifest_path_of("a/x.rtx.plan") == "a/x.rtx.json"
    assert store.manifest_path_of("a/x.rtx.json") == "a/x.rtx.json"


def test_engines_are_found_whose_manifests_list_the_options_of_other_networks(tmp_path: Path) -> None:
    """As earlier releases did; at their default those say nothing of a ResNet-50."""
    request = request_in(tmp_path)
    paths, parts = paths_of(request), parts_of(request, "s")
    publish(request)
    assert "request.nms_offset" not in parts
    manifest = json.loads(Path(paths.manifest).read_text())
    for value, found in ((True, True), (False, False)):
        manifest["parts"] = {**parts, "request.nms_offset": value, "request.timing_cache": None}
        manifest["fingerprint"] = fingerprint_of(manifest["parts"])
        Path(paths.manifest).write_text(json.dumps(manifest))
        assert (find(request).manifest is not None) is found


def test_a_folder_without_engines_of_the_kind_holds_none(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    without_source = engine_parts(request, BUILDER)
    assert not store.holds_engines(request, without_source)
    publish(request_in(tmp_path, scenario="Server"))
    assert not store.holds_engines(request, without_source)
    publish(request)
    assert store.holds_engines(request, without_source)
