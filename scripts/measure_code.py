#!/usr/bin/env python3
"""Measure the shape of the code: `scripts/measure_code.py [-v] [--installed]`.

Lines by folder, loose modules, names used twice, circles of imports, lengths of functions, comments, broad exception
handlers, `Any`, tasks; `-v` adds the names that were counted. `--installed` adds what takes longer: the time to
import the command line, and the size of this Python's packages. What counts as a line is every line of a tracked file.
"""

import argparse
import ast
import collections
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "satellite"


def tracked(folder: str) -> list[Path]:
    """Return the tracked Python files of a folder."""
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if name.endswith(".py")]


def lines_of(files: list[Path]) -> int:
    """Return how many lines the files have together."""
    return sum(file.read_text().count("\n") for file in files)


def module_of(file: Path) -> str:
    """Return the dotted name of a file's module."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST, known: set[str]) -> set[str]:
    """Return the modules of the package that one imports, also those for types alone."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & known) or {node.module}
    return found & known


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, by the transitive closure of `edges`."""
    reached = {name: set(others) for name, others in edges.items()}
    for through in edges:
        for name in edges:
            if through in reached[name]:
                reached[name] |= reached[through]
    groups = {frozenset(b for b in edges if b in reached[a] and a in reached[b]) for a in edges if a in reached[a]}
    return sorted(sorted(group) for group in groups)


def twice(names: list[str]) -> list[str]:
    """Return the names that occur more than once."""
    return sorted(name for name, count in collections.Counter(names).items() if count > 1)


def is_broad(node: ast.ExceptHandler) -> bool:
    """Return whether a handler catches whatever comes."""
    return node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))


def measure(*, verbose: bool) -> None:
    """Print the figures of the package."""
    files = tracked(PACKAGE)
    trees = {module_of(file): ast.parse(file.read_text()) for file in files}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    folders: collections.Counter[str] = collections.Counter()
    for file in files:
        folders[file.relative_to(ROOT / PACKAGE).parts[0] if file.parent != ROOT / PACKAGE else "(loose)"] += lines_of(
            [file]
        )
    largest = max(lines_of([file]) for file in files)
    print(f"package: {len(files)} files, {sum(folders.values())} lines, largest {largest}")
    print("  " + ", ".join(f"{name} {count}" for name, count in sorted(folders.items())))
    print(f"tests: {lines_of(tracked('tests'))} lines; bench: {lines_of(tracked('bench'))}")

    hidden = ("__init__", "__main__")
    figures = {
        "loose modules": [file.stem for file in files if file.parent == ROOT / PACKAGE and file.stem not in hidden],
        "file names twice": twice([file.stem for file in files if file.stem not in hidden]),
        "public classes twice": twice(
            [
                node.name
                for tree in trees.values()
                for node in tree.body
                if isinstance(node, ast.ClassDef) and node.name[0] != "_"
            ]
        ),
        "circles of imports": [
            " ".join(group) for group in circles({n: imports(t, set(trees)) for n, t in trees.items()})
        ],
    }
    for what, found in figures.items():
        print(f"{what}: {len(found)}" + (f": {', '.join(found)}" if verbose and found else ""))

    functions = sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    p90 = statistics.quantiles(functions, n=10)[-1]
    print(f"functions: p50 {statistics.median(functions):g}, p90 {p90:g}, longest {functions[-1]} lines")

    text = [line for file in files for line in file.read_text().splitlines() if line.strip()]
    comments = sum(line.strip().startswith("#") or "  # " in line for line in text)
    code = sum(not line.strip().startswith("#") for line in text)
    print(f"comments: {100 * comments / code:.1f} in 100 lines of code")

    handlers = [node for node in nodes if isinstance(node, ast.ExceptHandler)]
    print(f"exception handlers: {len(handlers)}, broad {sum(map(is_broad, handlers))}")
    print(f"Any: {sum(isinstance(node, ast.Name) and node.id == 'Any' for node in nodes)}")
    calls = [node.func.attr for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    print(f"create_task: {calls.count('create_task')}, all but those of task groups in tasks.py")


def installed() -> None:
    """Print how long the command line takes to start, and how large what is installed is."""
    took = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", PACKAGE, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        took.append(time.monotonic() - began)
    print(f"`satellite --help`: median {1000 * statistics.median(took):.0f} ms of {len(took)}")
    folder = Path(sysconfig.get_path("purelib"))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    print(f"packages in {folder}: {size / 1e6:.0f} MB")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("-v", "--verbose", action="store_true", help="add the names that were counted")
    arguments.add_argument("--installed", action="store_true", help="add start time and installed size")
    options = arguments.parse_args()
    measure(verbose=options.verbose)
    if options.installed:
        installed()
