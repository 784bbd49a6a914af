"""Measure the shape of the code: folders, long functions, import floors, docstrings.

    python tests/support/measured/measure_house.py [ROOT] [--json]

It only reads source files, so it needs no package but the standard library.
- A public function has no underscore before its name or its class's, and is not inside a function.
- A command is a function whose parameters `--help` explains. It counts as no public function.
- The length of a function does not count its docstring.
- Imports inside functions and for type checkers count like all others.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGES = ("models", "pipeline", "tools")
LONG_FUNCTION, LONG_FILE, MANY_PARAMETERS = 60, 400, 3  # lines, lines, parameters

Function = ast.FunctionDef | ast.AsyncFunctionDef
Graph = dict[str, set[str]]
Finding = tuple[str, int]  # what and where; its size


def measure(root: Path) -> dict[str, list[Finding]]:
    """Findings of each measure, largest first. Tests count in the folders only."""
    files = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    trees = {path.relative_to(root): ast.parse(path.read_text(encoding="utf-8")) for path in files}
    lengths = [(str(p.relative_to(root)), len(p.read_bytes().splitlines())) for p in files]
    tests = list((root / "tests").rglob("*.py"))
    modules = [path.relative_to(root) for path in files + tests if path.stem != "__init__"]
    folders = Counter(str(path.parent) for path in modules)
    imports = import_graph(trees)
    graphs = {"touchline": imports}
    graphs |= {package: between_children(imports, f"touchline.{package}.") for package in PACKAGES}
    circles = {package: circle(graphs[package]) for package in PACKAGES}
    found = {
        "folders, by modules": list(folders.items()),
        f"files over {LONG_FILE} lines": [each for each in lengths if each[1] > LONG_FILE],
        "import graphs, by floors": [
            (f"{name}, {len(graph)} nodes", count_floors(graph)) for name, graph in graphs.items()
        ],
        "packages whose direct children import in a circle": [
            (f"{package}: {' imports '.join(names)}", len(names) - 1)
            for package, names in circles.items()
            if names
        ],
    }
    found |= measure_functions(trees)
    return {name: sorted(f, key=lambda each: (-each[1], each[0])) for name, f in found.items()}


def measure_functions(trees: dict[Path, ast.Module]) -> dict[str, list[Finding]]:
    """Findings about functions: length, hints and the sections of docstrings."""
    many = f"public functions of {MANY_PARAMETERS} or more parameters"
    long = f"functions over {LONG_FUNCTION} lines"
    args, no_args = f"{many}, with Args:", f"{many}, without"
    raising = "public functions that raise"
    raises, no_raises = f"{raising}, with Raises:", f"{raising}, without"
    hints = "functions without a type hint"
    found: dict[str, list[Finding]] = {
        name: [] for name in (long, args, no_args, raises, no_raises, hints)
    }
    for path, tree in trees.items():
        for function, public in functions(tree):
            at = f"{path}:{function.lineno}: {function.name}"
            size = code_lines(function)
            given = parameters(function)
            num_raised = count_raised(function)
            if size > LONG_FUNCTION:
                found[long].append((at, size))
            if public and len(given) >= MANY_PARAMETERS:
                found[args if has_section(function, "Args:") else no_args].append((at, len(given)))
            if public and num_raised:
                section = raises if has_section(function, "Raises:") else no_raises
                found[section].append((at, num_raised))
            if function.returns is None or not all(each.annotation for each in given):
                found[hints].append((at, len(given)))
    return found


def functions(node: ast.AST, public: bool = True) -> Iterator[tuple[Function, bool]]:
    """Every function below a node, and whether it is public."""
    for child in ast.iter_child_nodes(node):
        shown = public
        if isinstance(child, ast.ClassDef | Function):
            shown = public and not child.name.startswith("_")
        if isinstance(child, Function):
            hints = [ast.unparse(a.annotation) for a in parameters(child) if a.annotation]
            command = any("typer.Option(" in h or "typer.Argument(" in h for h in hints)
            yield child, shown and not command
            shown = False
        yield from functions(child, shown)


def code_lines(function: Function) -> int:
    """Lines from the `def` to the end, without the docstring."""
    size = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        size -= (first.end_lineno or 0) - first.lineno + 1
    return size


def parameters(function: Function) -> list[ast.arg]:
    """All parameters but self and cls."""
    a = function.args
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return [each for each in every if each.arg not in ("self", "cls")]


def has_section(function: Function, title: str) -> bool:
    """Whether a line of the docstring is this title."""
    return title in (line.strip() for line in (ast.get_docstring(function) or "").splitlines())


def count_raised(node: ast.AST) -> int:
    """`raise ERROR` statements outside inner functions; a bare `raise` hands an error on."""
    inner = [c for c in ast.iter_child_nodes(node) if not isinstance(c, Function)]
    here = isinstance(node, ast.Raise) and node.exc is not None
    return here + sum(count_raised(child) for child in inner)


def import_graph(trees: dict[Path, ast.Module]) -> Graph:
    """The modules that each module imports; importing a package's module is not importing it."""
    names = {
        path: ".".join(("touchline", *path.with_suffix("").parts)).removesuffix(".__init__")
        for path in trees
    }
    graph: Graph = {name: set() for name in names.values()}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                graph[names[path]].update(a.name for a in node.names if a.name in graph)
            elif isinstance(node, ast.ImportFrom) and node.module:
                # What is no module of its own is defined in the module that it comes from.
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = {name if name in graph else node.module for name in whole}
                graph[names[path]] |= targets & graph.keys()
    return graph


def between_children(imports: Graph, prefix: str) -> Graph:
    """Imports between the direct children of a package, each with all that is below it."""
    child = {n: n.removeprefix(prefix).split(".")[0] for n in imports if n.startswith(prefix)}
    graph: Graph = {name: set() for name in child.values()}
    for name, own in child.items():
        graph[own] |= {child[t] for t in imports[name] if t in child} - {own}
    return graph


def circle(graph: Graph) -> list[str]:
    """Names of which each imports the next, the last being the first; empty if there is none."""
    try:
        TopologicalSorter({name: sorted(graph[name]) for name in sorted(graph)}).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def count_floors(graph: Graph) -> int:
    """Names in the longest chain of imports; 0 if there is a circle, which has no end."""
    floor: dict[str, int] = {}
    for name in () if circle(graph) else TopologicalSorter(graph).static_order():
        floor[name] = 1 + max((floor[below] for below in graph[name]), default=0)
    return max(floor.values(), default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the shape of the code.")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[3])
    parser.add_argument("--json", action="store_true", help="print every finding, as JSON")
    arguments = parser.parse_args()
    measured = measure(arguments.root)
    if arguments.json:
        print(json.dumps(measured, indent=1))
        return
    for name, findings in measured.items():
        print(f"{len(findings):4} {name}")
        for what, size in findings[:5]:
            print(f"     {size:6}  {what}")


if __name__ == "__main__":
    main()
