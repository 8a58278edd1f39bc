"""Imports point one way and in no circle, heavy libraries load late, and only the daemon knows concrete engines."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_SECONDS

PACKAGE = Path(__file__).parent.parent / "satellite"

LAYERS = (
    "errors",
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

ENGINES_TO_ALL = ("protocols", "slot", "worker", "chat.status", "chat.usage", "chat.tokens")
"""What everything above the engines may import of them."""

ENGINES_TO_SOME = {
    "satellite.cli.doctor.gpu": {"cuda"},
    "satellite.cli.doctor.household": {"remote.hosts"},
    "satellite.cli.tune": {"stt.whisper", "vad"},
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
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in tree.body
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in NAMES else node.module, node in tree.body


def layer_of(module: str) -> int:
    """Return the place of the module's part of the tree in `LAYERS`; raises `ValueError` where it has none."""
    _, *inside = module.split(".")
    return LAYERS.index(inside[0]) if inside else -1


@pytest.mark.parametrize("name", NAMES)
def test_imports_point_down(name: str) -> None:
    """No module imports from a layer above its own."""
    above = {other for other, _ in imports(NAMES[name]) if other in NAMES and layer_of(other) > layer_of(name)}
    assert above == set()


def test_there_is_no_circle() -> None:
    """No two modules import each other, directly or over others; imports for types alone count."""
    edges = {name: {other for other, _ in imports(file) if other in NAMES} for name, file in NAMES.items()}
    reached = {name: set(others) for name, others in edges.items()}
    for through in NAMES:
        for name in NAMES:
            if through in reached[name]:
                reached[name] |= reached[through]
    circles = {frozenset(b for b in NAMES if b in reached[a] and a in reached[b]) for a in NAMES if a in reached[a]}
    assert circles == set()


@pytest.mark.parametrize("name", [name for name in NAMES if layer_of(name) > LAYERS.index("engines")])
def test_only_the_daemon_knows_concrete_engines(name: str) -> None:
    """Everything above the engines sees their Protocols, never the engines."""
    if layer_of(name) == LAYERS.index("daemon"):
        return
    prefix = "satellite.engines."
    seen = {other.removeprefix(prefix) for other, _ in imports(NAMES[name]) if other.startswith(prefix)}
    assert seen - set(ENGINES_TO_ALL) == ENGINES_TO_SOME.get(name, set())


@pytest.mark.parametrize("name", NAMES)
def test_heavy_libraries_are_not_imported_at_the_top(name: str) -> None:
    """Libraries that take time and memory load inside `load()`."""
    assert not {imported for imported, top in imports(NAMES[name]) if top and imported.split(".")[0] in HEAVY}


def test_the_command_line_starts_without_the_engines() -> None:
    """`satellite --help` pays for nothing but what Python has, the other commands for no model library."""
    code = "import sys, satellite.cli.main as m; m.parser(); print([n for n in sys.argv[1:] if n in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code, *HEAVY, "numpy", "pydantic", "rich", "wyoming", "yaml"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
        cwd=PACKAGE.parent,
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["room", "conversation", "barge_in", "arbitration", "playback", "ringing", "chime"])
def test_the_conversation_knows_no_transport(name: str) -> None:
    """It holds in every room alike: what a protocol needs is the concern of its device."""
    transports = ("wyoming", "fastapi", "starlette", "satellite.wire", "satellite.services", "satellite.http")
    reached: set[str] = set()
    new = {f"satellite.rooms.{name}"}
    while new:
        module = new.pop()
        found = {other for other, _ in imports(NAMES[module])} - reached
        reached |= found
        new |= {other for other in found if other.startswith("satellite.rooms.")}
    assert {other for other in reached if other.startswith(transports)} == set()
