"""Imports point one way, heavy libraries load late, and only the daemon knows concrete engines."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_SECONDS

PACKAGE = Path(__file__).parent.parent / "satellite"

# Lowest first; a module may import from its own layer and from those before it.
LAYERS = [
    [
        "satellite",
        "satellite.net.binding",
        "satellite.errors",
        "satellite.languages",
        "satellite.system.logs",
        "satellite.system.process",
        "satellite.system.nvidia",
        "satellite.supervision",
        "satellite.backoff",
        "satellite.tasks",
        "satellite.system.child_process",
        "satellite.signals",
    ],
    ["satellite.models.spec", "satellite.models.demo_set", "satellite.models.catalogue", "satellite.models"],
    [
        "satellite.audio.pcm",
        "satellite.config.settings",
        "satellite.config.addresses",
        "satellite.config.base",
        "satellite.config.chat",
        "satellite.config.consistency",
        "satellite.config.home_assistant",
        "satellite.config.http",
        "satellite.config.http_token",
        "satellite.config.host",
        "satellite.config.rooms",
        "satellite.config.loader",
        "satellite.net.proxies",
        "satellite.config.secrets",
        "satellite.audio.sound_files",
    ],
    ["satellite.models.", "satellite.events"],
    ["satellite.engines", "satellite.wire", "satellite.rooms.host.capture_process", "satellite.rooms.host.portaudio"],
    ["satellite.turn"],
    ["satellite.commands", "satellite.home_assistant"],
    [
        "satellite.services",
        "satellite.monitoring.metrics",
        "satellite.monitoring.runs",
        "satellite.monitoring.run_metrics",
    ],
    ["satellite.rooms", "satellite.http", "satellite.reload", "satellite.responders", "satellite.monitoring.run_log"],
    ["satellite.daemon", "satellite.assembly"],
    [
        "satellite.demo",
        "satellite.checking",
        "satellite_bench",
        "satellite.status_page",
        "satellite.serving",
        "satellite.doctor",
        "satellite.installing",
    ],
    ["satellite.arguments"],
    ["satellite.__main__"],
]
CONCRETE = ("vad", "stt", "tts", "voices", "openwakeword", "microwakeword", "llamacpp", "chat")
KNOWING = (
    "satellite.assembly",
    "satellite.checking",  # where keys are, and what voices a folder holds, no engine
    "tests.doubles.__main__",
    "satellite_bench.chat_bare",
    "satellite_bench.endpoint",
    "satellite_bench.rooms_again",
    "satellite_bench.voice_run",  # the chat providers' greeting
    "satellite_bench.wake_streams",
    "satellite.doctor.chat",  # addresses and keys, and what Ollama's lists mean, no engine
    "satellite.doctor.ollama",
    "satellite_bench.windows",
    "satellite.skills.home_assistant.api",  # the chat providers' breaker and addresses, no engine
    "satellite.skills.home_assistant.agent",
)
HEAVY = ("ctranslate2", "faster_whisper", "onnxruntime", "piper", "xllamacpp", "ollama", "openai", "ai_edge_litert")


def modules() -> Iterator[tuple[str, Path]]:
    """Yield every module's name and file."""
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), file


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Yield the modules that `file` imports and whether at its top level, type-checking blocks left out."""
    tree = ast.parse(file.read_text())
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in tree.body
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node in tree.body
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node in tree.body


def layer_of(module: str) -> int | None:
    """Return the layer that names `module` most exactly."""
    best: tuple[int, int] | None = None
    for level, prefixes in enumerate(LAYERS):
        for prefix in prefixes:
            exact = module == prefix or (prefix != "satellite" and module.startswith(prefix.rstrip(".") + "."))
            if exact and (best is None or len(prefix) > best[0]):
                best = (len(prefix), level)
    return None if best is None else best[1]


NAMES = dict(modules())


@pytest.mark.parametrize("name", NAMES)
def test_imports_point_down(name: str) -> None:
    """No module imports from a layer above its own."""
    own = layer_of(name)
    assert own is not None, f"{name} has no layer"
    for imported, _ in imports(NAMES[name]):
        if imported in NAMES:
            level = layer_of(imported)
            assert level is not None
            assert level <= own, f"{name} imports {imported}"


@pytest.mark.parametrize("name", NAMES)
def test_only_the_daemon_knows_concrete_engines(name: str) -> None:
    """Everything above the engines sees their Protocols, never the engines, but for what measures or imitates them."""
    if name.startswith("satellite.engines") or name in KNOWING:
        return
    concrete = {f"satellite.engines.{engine}" for engine in CONCRETE}
    found = {imported for imported, _ in imports(NAMES[name]) if any(imported.startswith(c) for c in concrete)}
    assert not found


@pytest.mark.parametrize("name", NAMES)
def test_heavy_libraries_are_not_imported_at_the_top(name: str) -> None:
    """Libraries that take time and memory load inside `load()`."""
    assert not {imported for imported, top in imports(NAMES[name]) if top and imported.split(".")[0] in HEAVY}


def test_the_command_line_starts_without_the_engines() -> None:
    """`satellite --help` pays for nothing but what Python has, the other commands for no model library."""
    code = "import sys, satellite.__main__ as m; m.parser(); print([n for n in sys.argv[1:] if n in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code, *HEAVY, "numpy", "pydantic", "rich", "wyoming", "yaml"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
        cwd=PACKAGE.parent,
    )
    assert result.stdout.strip() == "[]"
