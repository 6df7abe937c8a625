"""The lowest version of every dependency that pyproject.toml allows, as constraints for pip.

python .ci/lowest_versions.py > constraints.txt && pip install -c constraints.txt -e '.[rtx,test]'
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:  # a new environment has nothing but pip, which carries the same parser
    from pip._vendor import tomli as tomllib

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(?P<versions>[^;]*)(?:;.*)?")
_LOWEST = re.compile(r">=\s*([0-9][^,\s]*)")


def lowest_versions(pyproject: str) -> dict[str, str]:
    """Package -> its lowest allowed version, over all extras; packages without a lower bound are left out.

    Raises ValueError where two extras name different bounds for the same package.
    """
    lowest: dict[str, str] = {}
    for text in _requirements(tomllib.loads(pyproject)["project"]):
        found = _REQUIREMENT.fullmatch(text.strip())
        bound = _LOWEST.search(found["versions"]) if found else None
        if found is None or bound is None:
            continue
        if lowest.setdefault(found["name"].lower(), bound[1]) != bound[1]:
            raise ValueError(f"pyproject.toml allows {found['name']} from {bound[1]} and from {lowest[found['name']]}")
    return lowest


def _requirements(project: dict[str, object]) -> Iterator[str]:
    dependencies, extras = project["dependencies"], project["optional-dependencies"]
    assert isinstance(dependencies, list)
    assert isinstance(extras, dict)
    yield from dependencies
    for requirements in extras.values():
        yield from requirements


if __name__ == "__main__":
    for name, version in sorted(lowest_versions(PYPROJECT.read_text(encoding="utf-8")).items()):
        sys.stdout.write(f"{name}=={version}\n")
