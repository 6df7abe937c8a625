"""Things by name, from this package's modules and from those of the environment."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest

from cmx4trt.base.registry import Registry
from cmx4trt.errors import RequestError


@dataclass(frozen=True)
class Fruit:
    name: str


@pytest.fixture
def garden(monkeypatch: pytest.MonkeyPatch) -> Registry[Fruit]:
    """Apple and pear in one module, cherry in another that only the environment names."""
    for module, names in {"orchard": ("apple", "pear"), "hedge": ("cherry",), "road": ()}.items():
        offered = ModuleType(module)
        if names:
            offered.FRUITS = tuple(map(Fruit, names))  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module, offered)
    return Registry("FRUITS", ["orchard"], "MORE_FRUITS")


def test_modules_of_the_environment_come_last(garden: Registry[Fruit], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORE_FRUITS", " hedge, ")
    assert list(garden.known()) == ["apple", "pear", "cherry"]


@pytest.mark.parametrize("module", ["no_such_module", "road"])
def test_a_module_that_offers_none_is_named(
    garden: Registry[Fruit], monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setenv("MORE_FRUITS", module)
    with pytest.raises(RequestError, match=f"MORE_FRUITS names the module {module}, which does not provide FRUITS"):
        garden.known()


def test_a_broken_module_of_the_package_is_not_the_users_fault() -> None:
    with pytest.raises(ImportError):
        Registry("FRUITS", ["no_such_module"], "MORE_FRUITS").known()


def test_registered_ones_are_there_inside_the_block_only(garden: Registry[Fruit]) -> None:
    other = Fruit("pear")
    with garden.registered(other, Fruit("plum")):
        assert list(garden.known()) == ["apple", "pear", "plum"]
        assert garden.known()["pear"] is other
    assert list(garden.known()) == ["apple", "pear"]
    assert garden.known()["pear"] is not other
