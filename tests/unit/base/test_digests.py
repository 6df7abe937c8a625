from __future__ import annotations

import builtins
import hashlib
import os
from pathlib import Path

import pytest

from cmx4trt.base.digests import blake3_of_file, blake3_of_files, digests_of, hash_stream, new_blake3, sha256_of_file
from cmx4trt.base.files import open_file
from cmx4trt.errors import MissingSoftwareError

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
BLAKE3_OF_ABC = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"


def test_digests_of_files(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    assert sha256_of_file(str(path)) == SHA256_OF_ABC
    assert blake3_of_file(str(path)) == BLAKE3_OF_ABC
    content = os.urandom(3_000_001)
    path.write_bytes(content)
    assert sha256_of_file(str(path)) == hashlib.sha256(content).hexdigest()
    assert digests_of(memoryview(content).cast("b")) == digests_of(content)
    assert digests_of(content) == {"sha256": sha256_of_file(str(path)), "blake3": blake3_of_file(str(path))}


def test_digests_of_many_files_come_in_their_order(tmp_path: Path) -> None:
    paths = [str(tmp_path / str(number)) for number in range(20)]
    for path in paths:
        Path(path).write_text(path)
    assert blake3_of_files(paths) == [blake3_of_file(path) for path in paths]
    assert blake3_of_files([]) == []
    Path(paths[7]).unlink()
    with pytest.raises(FileNotFoundError):
        blake3_of_files(paths)


def test_a_part_of_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"..abc...")
    hasher = new_blake3()
    with open_file(str(path)) as stream:
        stream.seek(2)
        assert hash_stream(stream, hasher, 3) == 3
        assert hash_stream(stream, new_blake3(), 100) == 3, "a file that ends early says so"
    assert hasher.hexdigest() == BLAKE3_OF_ABC


def test_without_the_package_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_blake3(name: str, *rest: object) -> object:
        if name == "blake3":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_blake3)
    with pytest.raises(MissingSoftwareError, match=r"blake3 is not installed in this Python; pip install"):
        new_blake3()
