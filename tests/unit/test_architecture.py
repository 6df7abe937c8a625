"""The layers of the package, and what may be imported where."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = ("tensorrt-rtx", "common-code", "hopper", "null")
"""Of backends; 'tensorrt' is also the name of a library."""
PACKAGE = Path(__file__).parents[2] / "cmx4trt"

LAYERS = [
    {"__main__"},
    {"cli", "gui", "cm", "mlc"},
    {"frameworks"},
    {"sweep"},
    {"pipeline", "report"},
    {"quantize", "verify", "bench"},
    {"store"},
    {"requests"},
    {"backends"},
    {"networks"},
    {"graph"},
    {"ir", "devices", "images", "sessions"},
    {"base"},
    {"errors", "__init__"},
]
"""Top to bottom; a module imports from its own layer or below, members of SEPARATE not from each other."""

SEPARATE = {"quantize", "verify", "bench"}

VENDORS = {
    "tensorrt_rtx": {"backends/tensorrt/rtx.py"},
    "tensorrt": {"backends/tensorrt/native.py"},
    "onnxruntime": {"sessions/onnxruntime.py"},
    "pycuda": {"devices/driver.py"},
    "cuda": {"devices/cuda.py"},
    "mlperf_loadgen": {"bench/loadgen.py"},
    "pycocotools": {"networks/retinanet/accuracy.py"},
    "streamlit": {"gui/server.py", "gui/page.py", "gui/page_form.py", "gui/page_results.py"},
    "matplotlib": {"report/plots.py"},
    "yaml": {"gui/form.py", "sweep/located.py"},
    "rich": {"cli/sweep_table.py"},
    "ray": {"sweep/on_ray.py"},
    "submitit": {"sweep/on_slurm.py"},
}
HEAVY = {*VENDORS, "numpy", "onnx"}
PAGES = {"gui/page.py", "gui/page_form.py", "gui/page_results.py"}
"""What Streamlit runs as the page; nothing else imports them, so their imports are where Streamlit's users look."""


def modules() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if "script" not in p.relative_to(PACKAGE).parts]


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layer_of(part: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if part in layer)


def imported(path: Path) -> list[tuple[str, bool, bool]]:
    """(module, at module level, only for type checking) of every import statement."""
    tree = ast.parse(path.read_text())
    found: list[tuple[str, bool, bool]] = []

    def visit(node: ast.AST, top: bool, typing: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, top, typing) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                found.append((child.module or "", top, typing))
                if child.module == "cmx4trt":
                    found.extend((f"cmx4trt.{alias.name}", top, typing) for alias in child.names)
            inside = top and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            is_typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            visit(child, inside, typing or is_typing)

    visit(tree, True, False)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = part_of(path)
    if own == "__init__":
        return  # offers the public names, lazily
    for module, _, _ in imported(path):
        names = module.split(".")
        if names[0] != "cmx4trt" or len(names) < 2 or names[1] == "__version__":
            continue
        other = names[1]
        if other not in set().union(*LAYERS):
            continue  # a name, not a module: from cmx4trt import __version__
        assert layer_of(other) >= layer_of(own), f"{own} imports {other}, which lies above it"
        assert own == other or not {own, other} <= SEPARATE, f"{own} and {other} must not know each other"


LONGEST = 300
"""Lines of a module; one that does more is two."""


def test_modules_are_short() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in modules()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


def test_every_module_belongs_to_a_layer() -> None:
    assert {part_of(path) for path in modules()} <= set().union(*LAYERS)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_vendor_modules_are_imported_in_one_file_and_inside_functions(path: Path) -> None:
    relative = str(path.relative_to(PACKAGE))
    for module, top, typing in imported(path):
        vendor = module.split(".")[0]
        if typing:
            continue
        if vendor in VENDORS:
            assert relative in VENDORS[vendor], f"{relative} imports {vendor}"
        assert not (top and vendor in HEAVY) or relative in PAGES, f"{relative} imports {vendor} at module level"


def test_nothing_outside_backends_compares_a_backends_name() -> None:
    """A name in a sentence or an example of a command line is text; one in a comparison or a table is a decision."""
    for path in modules():
        if part_of(path) == "backends":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            parts: list[ast.expr] = []
            if isinstance(node, ast.Compare):
                parts = [node.left, *node.comparators]
            elif isinstance(node, ast.Dict):
                parts = [*filter(None, node.keys), *node.values]
            elif isinstance(node, (ast.Tuple, ast.List, ast.Set)):
                parts = list(node.elts)
            named = {p.value for part in parts for p in ast.walk(part) if isinstance(p, ast.Constant)}
            assert not named & set(NAMES), f"{path.relative_to(PACKAGE)}:{node.lineno} decides by a backend's name"


def test_only_pages_import_pages() -> None:
    names = {f"cmx4trt.{page.removesuffix('.py').replace('/', '.')}" for page in PAGES}
    for path in modules():
        if str(path.relative_to(PACKAGE)) not in PAGES:
            assert not names & {module for module, _, _ in imported(path)}, path


LIGHT = [
    "import cmx4trt",
    "import cmx4trt.cli",
    "import cmx4trt.cli.gui, cmx4trt.gui.form, cmx4trt.gui.line, cmx4trt.gui.runner, cmx4trt.gui.server",
    "import cmx4trt.pipeline.build, cmx4trt.backends.tensorrt.rtx",
    "import cmx4trt.graph, cmx4trt.networks.resnet50.onnx_import, cmx4trt.ir.onnx_file",
    "from cmx4trt import BuildRequest, build",
]


@pytest.mark.parametrize("statement", LIGHT)
def test_imports_are_light(statement: str) -> None:
    code = f"import sys; {statement}; print(sorted({HEAVY!r} & sys.modules.keys()))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert result.stdout.strip() == "[]"


def test_the_cm_edge_needs_only_the_standard_library() -> None:
    """CM's hooks run in CM's own Python, which may have nothing else: -I -S hides site-packages."""
    imports = "import cmx4trt.cm.hooks, cmx4trt.mlc.hooks, cmx4trt.cm.gui, cmx4trt.requests.build"
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {imports}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, cwd="/")


def test_only_the_command_edge_prints_or_exits() -> None:
    for path in modules():
        if part_of(path) in {"cli", "cm", "__main__"}:
            continue
        calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)}
        assert not calls & {"print", "sys.exit", "exit", "os._exit"}, path


def test_no_circles() -> None:
    """No chain of imports, those inside functions included, leads from a module back to it; packages' faces apart."""
    names = {".".join(("cmx4trt", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in modules()}
    below = {
        name: {
            found for module, _, typing in imported(path) if not typing and (found := module) in names and found != name
        }
        for name, path in names.items()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            for other in sorted(below[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in sorted(names):
        visit(name, ())


def test_only_networks_compare_the_name_of_a_network() -> None:
    """Everything else asks the registry. Tables with names as keys are data."""
    names = {"resnet50", "retinanet"}
    for path in modules():
        if part_of(path) == "networks":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                compared = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                assert not names & compared, f"{path}:{node.lineno} compares the name of a network"
