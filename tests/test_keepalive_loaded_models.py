"""What Ollama's list of loaded models means."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from satellite.engines.chat.keepalive.loaded_models import (
    LOADED,
    GpuShare,
    LoadedModel,
    ModelState,
    find,
    findings,
    full_name,
)
from satellite.errors import ChatRejected, ChatUnavailable

NOW = datetime.now(UTC)
FOR_EVER = NOW + timedelta(days=292 * 365)
SOON = NOW + timedelta(minutes=5)


def loaded(name: str = "phi3:mini", **fields: Any) -> LoadedModel:
    """Return an entry of the list, of a model that is as it should be but for `fields`."""
    entry = LoadedModel(name=name, size=100, size_vram=100, context_tokens=4096, expires_at=FOR_EVER)
    return replace(entry, **fields)


@pytest.mark.parametrize(
    ("written", "listed"),
    [
        ("phi3", "phi3:latest"),
        ("phi3:mini", "phi3:mini"),
        ("Phi3:Mini", "phi3:mini"),
        ("library/phi3", "phi3:latest"),
        ("registry.ollama.ai/library/phi3:mini", "phi3:mini"),
        ("me/phi3", "me/phi3:latest"),
        ("hf.co/org/Model-GGUF", "hf.co/org/model-gguf:latest"),
        ("hf.co/org/Model-GGUF:Q4_K_M", "hf.co/org/model-gguf:q4_k_m"),
        ("localhost:5000/me/phi3", "localhost:5000/me/phi3:latest"),
    ],
)
def test_a_model_has_one_name(written: str, listed: str) -> None:
    assert full_name(written) == full_name(listed) == listed


def test_a_model_is_found_by_its_name() -> None:
    ours, other = loaded("phi3:latest"), loaded("cat")
    assert find([other, ours], "phi3") is ours
    assert find([other], "phi3") is None


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, []),
        ({"expires_at": None}, []),
        ({"expires_at": SOON}, [ModelState.FOREIGN_KEEP_ALIVE]),
        ({"expires_at": NOW - timedelta(seconds=1)}, [ModelState.FOREIGN_KEEP_ALIVE]),
        ({"context_tokens": 2048}, [ModelState.OTHER_CONTEXT]),
        ({"context_tokens": None}, []),
        ({"context_tokens": 262_144}, []),
        ({"size_vram": 99}, [ModelState.PARTLY_ON_CPU]),
        ({"size_vram": 0}, [ModelState.ON_CPU]),
        ({"size_vram": 120}, []),
        ({"size": 0, "size_vram": 0}, []),
        (
            {"size_vram": 1, "context_tokens": 1, "expires_at": SOON},
            [ModelState.OTHER_CONTEXT, ModelState.FOREIGN_KEEP_ALIVE, ModelState.PARTLY_ON_CPU],
        ),
    ],
)
def test_what_is_wrong_is_named_the_worst_first(fields: dict[str, Any], found: list[ModelState]) -> None:
    assert findings(loaded(**fields), 4096) == found


@pytest.mark.parametrize(
    ("size", "size_vram", "share", "words"),
    [(100, 100, 1.0, "100%"), (100, 37, 0.37, "37%"), (0, 0, 0.0, "0%"), (100, 200, 1.0, "100%")],
)
def test_the_share_on_the_gpu_is_a_share(size: int, size_vram: int, share: float, words: str) -> None:
    entry = loaded(size=size, size_vram=size_vram)
    assert entry.gpu_share == share
    assert entry.described == f"{words} on the GPU, context 4096"
    assert replace(entry, context_tokens=None).described == f"{words} on the GPU"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ChatUnavailable("", kind="unreachable"), ModelState.UNREACHABLE),
        (ChatUnavailable("", kind="timeout"), ModelState.SILENT),
        (ChatUnavailable("", kind="unknown-model"), ModelState.MODEL_MISSING),
        (ChatUnavailable("", kind="busy"), ModelState.FAILING),
        (ChatRejected(""), ModelState.FAILING),
    ],
)
def test_an_error_says_where_the_model_is(error: ChatUnavailable | ChatRejected, state: ModelState) -> None:
    assert ModelState.after(error) is state
    assert state not in LOADED


def test_what_was_on_the_gpu_is_worth_one_try() -> None:
    memory = GpuShare()
    assert not memory.is_lost(loaded(size_vram=0))
    assert not memory.is_lost(loaded(size_vram=90))
    assert not memory.is_lost(loaded(size_vram=86))
    assert memory.is_lost(loaded(size_vram=80))
    assert memory.is_lost(loaded(size_vram=80))
    memory.tried = True
    assert not memory.is_lost(loaded(size_vram=80))
    assert not memory.is_lost(loaded(size_vram=0))
    assert not memory.is_lost(loaded(size_vram=90))
    assert memory.is_lost(loaded(size_vram=0))
    assert not memory.is_lost(loaded(size=0, size_vram=0))


def test_without_a_gpu_nothing_is_wrong_with_the_cpu() -> None:
    entry = loaded(size=100, size_vram=0)
    assert entry.described == "on the CPU, context 4096"
    assert findings(entry, 4096) == [ModelState.ON_CPU]
    assert findings(entry, 4096, expects_gpu=False) == []
