"""Imports point down only: docs/architecture.md, "Who imports whom"."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

# The rooms of the house from the ground up. A module imports from lower floors, and from its own without a circle.
FLOORS = [
    {"as_caffe", "errors", "logs", "shims", "_csrc", "_emulated", "native"},
    {"device", "files"},
    {
        "blob",
        "datum",
        "engines",
        "fusion",
        "forks",
        "kernel_source",
        "kernels",
        "launch",
        "memory",
        "mirrors",
        "options",
        "order",
        "protobytes",
        "random",
        "recorder",
        "schema",
        "textformat",
        "upgrade",
        "wire",
    },
    {"data", "fillers"},
    {"layer"},
    {
        "arena",
        "batches",
        "build",
        "debug_info",
        "fitting",
        "graph",
        "layers",
        "layout",
        "lending",
        "node",
        "passes",
        "plane",
        "recompute",
        "storage",
        "weights",
    },
    {"net"},
    {"iteration", "policies", "rules", "snapshot", "solver"},
    {
        "classifier",
        "coord_map",
        "detector",
        "draw",
        "draw_formats",
        "draw_layout",
        "io",
        "net_spec",
        "proto",
        "pycaffe",
        "testing",
    },
    {"cli"},
    {"__init__", "__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# The registry looks for a type's file when its name comes up; that import is by name and inside a function.
DISCOVERY = {("layer", "layers")}

HEAVY = {"cramjam", "cv2", "cupy", "h5py", "leveldb", "lmdb", "matplotlib", "onnx", "scipy", "torch", "tqdm"}


def package() -> Path:
    return Path(importlib.util.find_spec("layerforge").submodule_search_locations[0])


def modules() -> dict[str, str]:
    """Every module of the package, as ``layers.relu``, with its text."""
    root = package()
    return {".".join(path.relative_to(root).with_suffix("").parts): path.read_text() for path in root.rglob("*.py")}


def imports(module: str, text: str) -> list[tuple[str, bool]]:
    """What a module imports, by full name (``layerforge.`` left off its own), and whether it does so when it is loaded.

    What stands under ``if TYPE_CHECKING`` is for the reader only and does not count.
    """
    found = []
    parents = module.split(".")[:-1]

    def visit(node: ast.AST, at_load: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name.removeprefix("layerforge."), at_load) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                if child.level:
                    base = parents[: len(parents) - child.level + 1]
                    base = [*base, *(child.module.split(".") if child.module else [])]
                    if child.module:
                        found.append((".".join(base), at_load))
                    else:
                        found.extend((".".join([*base, alias.name]), at_load) for alias in child.names)
                elif child.module == "layerforge":
                    found.extend((alias.name, at_load) for alias in child.names)
                else:
                    found.append((child.module.removeprefix("layerforge."), at_load))
            else:
                visit(child, at_load and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    visit(ast.parse(text), True)
    return found


def room(module: str) -> str:
    return module.split(".")[0]


def violations(texts: dict[str, str]) -> list[str]:
    found = []
    for module, text in sorted(texts.items()):
        here = room(module)
        if here not in FLOOR:
            found.append(f"{module}: on which floor does it stand? Say so in FLOORS and in docs/architecture.md")
            continue
        for target, at_load in imports(module, text):
            there = room(target)
            if there in HEAVY and at_load:
                found.append(f"{module} imports {target} when it is loaded: import it in the function that needs it")
            if there == "cupy" and here != "device":
                found.append(f"{module} imports cupy: only device/ does")
            if there not in FLOOR or here == there or (here, there) in DISCOVERY:
                continue
            if FLOOR[there] > FLOOR[here]:
                found.append(f"{module} imports {target}, which stands above it")
        if here == "layers" and module != "layers.__init__":
            for target, _ in imports(module, text):
                if room(target) in ("net", "solver", "graph") or is_other_layer(module, target):
                    found.append(f"{module} imports {target}: a layer imports neither net nor solver nor another layer")
    return found


def is_other_layer(module: str, target: str) -> bool:
    parts = target.split(".")
    return parts[0] == "layers" and len(parts) > 1 and not parts[1].startswith("_") and parts[1] != module.split(".")[1]


def circles(texts: dict[str, str]) -> list[str]:
    """Modules that need each other to be loaded."""
    names = {name.removesuffix(".__init__"): name for name in texts}
    needs = {
        name: [names[target] for target, at_load in imports(name, text) if at_load and target in names]
        for name, text in texts.items()
    }
    found, done = [], set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            found.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for target in needs[name]:
                walk(target, (*path, name))
            done.add(name)

    for name in sorted(needs):
        walk(name, ())
    return found


def test_imports_point_down():
    assert violations(modules()) == []


def test_no_circles():
    assert circles(modules()) == []


@pytest.mark.parametrize(
    "texts, expected",
    [
        ({"layer": "from .net import Net"}, ["layer imports net, which stands above it"]),
        ({"layer": "from . import net"}, ["layer imports net, which stands above it"]),
        ({"layer": "import layerforge.net"}, ["layer imports net, which stands above it"]),
        ({"layer": "def f():\n    from .solver import S"}, ["layer imports solver, which stands above it"]),
        ({"layer": "if TYPE_CHECKING:\n    from .net import Net"}, []),
        ({"net": "from .layers.relu import ReLU"}, []),
        ({"device.cuda": "def f():\n    import cupy"}, []),
        (
            {"layers.relu": "from .sigmoid import Sigmoid"},
            ["layers.relu imports layers.sigmoid: a layer imports neither net nor solver nor another layer"],
        ),
        ({"layers.conv": "from ._window import output_size"}, []),
        (
            {"data.lmdb": "import lmdb"},
            ["data.lmdb imports lmdb when it is loaded: import it in the function that needs it"],
        ),
        ({"data.lmdb": "def f():\n    import lmdb"}, []),
        ({"kernels": "def f():\n    import cupy"}, ["kernels imports cupy: only device/ does"]),
        ({"shed": ""}, ["shed: on which floor does it stand? Say so in FLOORS and in docs/architecture.md"]),
    ],
)
def test_violations_are_seen(texts, expected):
    assert violations(texts) == expected


def test_circles_are_seen():
    texts = {"schema": "from . import upgrade", "upgrade": "from .schema import read", "errors": ""}
    assert circles(texts) == ["schema -> upgrade -> schema"]


@pytest.mark.parametrize("module", ["layerforge", "layerforge.cli"])
def test_nothing_heavy_is_loaded(module):
    code = f"import sys, {module}; print(sorted(set(sys.modules) & {HEAVY!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=package().parent)
    assert run.stdout.strip() == "[]"
