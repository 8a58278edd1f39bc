"""Imports point one way and in no circle, heavy libraries load late, and only the daemon knows concrete engines."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_SECONDS

PACKAGE = Path(__file__).parent.parent / "satellite"

LAYERS = (
    "errors",
    "clock",
    "languages",
    "backoff",
    "tasks",
    "events",
    "system",
    "audio",
    "config",
    "net",
    "models",
    "wire",
    "engines",
    "pipeline",
    "skills",
    "services",
    "rooms",
    "monitoring",
    "http",
    "daemon",
    "cli",
    "__main__",
)
"""Lowest first: what stands here imports nothing that stands after it."""

ENGINES_TO_ALL = ("protocols", "slot", "worker", "chat.provider_status", "chat.tokens")
"""What everything above the engines may import of them."""

ENGINES_TO_SOME = {
    "satellite.cli.doctor.gpu": {"cuda"},
    "satellite.cli.doctor.household": {"remote.hosts"},
    "satellite.cli.tune": {"stt.segments", "stt.whisper", "vad"},
    "satellite.cli.doctor.ollama_server": {"chat.keepalive.loaded_models"},
}

HEAVY = ("ctranslate2", "faster_whisper", "onnxruntime", "piper", "xllamacpp", "ollama", "openai", "ai_edge_litert")


def modules() -> Iterator[tuple[str, Path]]:
    """Yield every module's name and file, but what the build writes."""
    for file in sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "_version.py"}):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), file


NAMES = dict(modules())


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Yield the modules that `file` imports, also for types alone, and whether at its top level."""
    tree = ast.parse(file.read_text())
    top = set(tree.body)
    nodes: list[ast.AST] = [tree]
    for node in nodes:
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):  # without expressions, which import nothing
            nodes += getattr(node, block, ())
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in top
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in NAMES else node.module, node in top


@cache
def all_imports() -> dict[str, list[tuple[str, bool]]]:
    return {name: list(imports(file)) for name, file in NAMES.items()}


def layer_of(module: str) -> int:
    """Return the place of the module's part of the tree in `LAYERS`; raises `ValueError` where it has none."""
    _, *inside = module.split(".")
    return LAYERS.index(inside[0]) if inside else -1


def test_imports_point_down() -> None:
    edges = {(name, other) for name, found in all_imports().items() for other, _ in found if other in NAMES}
    assert {(name, other) for name, other in edges if layer_of(other) > layer_of(name)} == set()


def test_there_is_no_circle() -> None:
    edges = {name: {other for other, _ in found if other in NAMES} for name, found in all_imports().items()}
    reached = {name: set(others) for name, others in edges.items()}
    for through in NAMES:
        for name in NAMES:
            if through in reached[name]:
                reached[name] |= reached[through]
    circles = {frozenset(b for b in NAMES if b in reached[a] and a in reached[b]) for a in NAMES if a in reached[a]}
    assert circles == set()


def test_only_the_daemon_knows_concrete_engines() -> None:
    engines, daemon = LAYERS.index("engines"), LAYERS.index("daemon")
    prefix = "satellite.engines."
    seen = {
        name: {other.removeprefix(prefix) for other, _ in found if other.startswith(prefix)} - set(ENGINES_TO_ALL)
        for name, found in all_imports().items()
        if layer_of(name) > engines and layer_of(name) != daemon
    }
    assert {name: engines for name, engines in seen.items() if engines} == ENGINES_TO_SOME


def test_heavy_libraries_are_not_imported_at_the_top() -> None:
    at_top = {(name, other) for name, found in all_imports().items() for other, top in found if top}
    assert {(name, other) for name, other in at_top if other.split(".")[0] in HEAVY} == set()


def test_no_default_binds_the_clock_at_the_import() -> None:
    bound = [name for name, file in NAMES.items() if re.search(r"=\s*time\.monotonic\b(?!\()", file.read_text())]
    assert bound == []


def test_the_command_line_starts_without_the_engines() -> None:
    code = (
        "import sys, satellite.cli.main; from satellite.cli.arguments import parser; parser(); "
        "print([n for n in sys.argv[1:] if n in sys.modules])"
    )
    large = (*HEAVY, "asyncio", "importlib.metadata", "numpy", "pydantic", "rich", "wyoming", "yaml")
    result = subprocess.run(
        [sys.executable, "-c", code, *large],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
        cwd=PACKAGE.parent,
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["room", "conversation"])
def test_the_conversation_knows_no_transport(name: str) -> None:
    libraries = ("wyoming", "fastapi", "starlette")
    packages = ("wire", "services", "http", "rooms.wyoming", "rooms.host")
    transports = (*libraries, *(f"satellite.{name}" for name in packages))
    reached: set[str] = set()
    new = {f"satellite.rooms.{name}"}
    while new:
        module = new.pop()
        found = {other for other, _ in imports(NAMES[module])} - reached
        reached |= found
        new |= {other for other in found if other.startswith("satellite.rooms.")}
    assert {other for other in reached if other.startswith(transports)} == set()
