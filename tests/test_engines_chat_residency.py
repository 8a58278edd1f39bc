"""What Ollama's list of loaded models means."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from satellite.engines.chat.keepalive.loaded_models import (
    RESIDENT,
    GpuMemory,
    Loaded,
    Residency,
    find,
    findings,
    full_name,
    likely_alias,
)
from satellite.errors import ChatRejected, ChatUnavailable

NOW = datetime.now(UTC)
FOR_EVER = NOW + timedelta(days=292 * 365)
SOON = NOW + timedelta(minutes=5)


def loaded(name: str = "phi3:mini", **fields: Any) -> Loaded:
    """Return an entry of the list, of a model that is as it should be but for `fields`."""
    entry = Loaded(name=name, size=100, size_vram=100, context_tokens=4096, expires_at=FOR_EVER)
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
    """However an administrator writes it."""
    assert full_name(written) == full_name(listed) == listed


def test_a_model_is_found_by_its_name_before_its_alias() -> None:
    """The alias counts only while the model is not listed itself."""
    ours, alias, other = loaded("phi3:latest"), loaded("alba:latest"), loaded("cat")
    assert find([other, alias, ours], "phi3", "alba") is ours
    assert find([other, alias], "phi3", "alba") is alias
    assert find([other, alias], "phi3", None) is None
    assert find([other], "phi3", "alba") is None
    assert find([], "phi3", "alba") is None


@pytest.mark.parametrize(
    ("entries", "alias"),
    [
        ([], None),
        ([loaded("cat")], "cat"),
        ([loaded("cat", expires_at=SOON)], None),
        ([loaded("cat"), loaded("dog", expires_at=SOON)], "cat"),
        ([loaded("cat"), loaded("dog")], None),
        ([loaded("cat"), loaded("dog", context_tokens=2048)], "cat"),
        ([loaded("cat", context_tokens=2048)], "cat"),
        ([loaded("cat", context_tokens=None)], "cat"),
        ([loaded("cat", context_tokens=1), loaded("dog", context_tokens=2)], None),
    ],
)
def test_an_alias_is_what_has_just_been_told_to_stay(entries: list[Loaded], alias: str | None) -> None:
    """With our context if there are several; where it cannot be told, there is none."""
    assert likely_alias(entries, 4096) == alias


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, []),
        ({"expires_at": None}, []),
        ({"expires_at": SOON}, [Residency.FOREIGN_KEEP_ALIVE]),
        ({"expires_at": NOW - timedelta(seconds=1)}, [Residency.FOREIGN_KEEP_ALIVE]),
        ({"context_tokens": 2048}, [Residency.OTHER_CONTEXT]),
        ({"context_tokens": None}, []),
        ({"size_vram": 99}, [Residency.PARTLY_ON_CPU]),
        ({"size_vram": 0}, [Residency.ON_CPU]),
        ({"size_vram": 120}, []),
        ({"size": 0, "size_vram": 0}, []),
        ({"name": "alba:latest"}, [Residency.OTHER_NAME]),
        (
            {"name": "alba", "size_vram": 1, "context_tokens": 1, "expires_at": SOON},
            [
                Residency.OTHER_CONTEXT,
                Residency.FOREIGN_KEEP_ALIVE,
                Residency.PARTLY_ON_CPU,
                Residency.OTHER_NAME,
            ],
        ),
    ],
)
def test_what_is_wrong_is_named_the_worst_first(fields: dict[str, Any], found: list[Residency]) -> None:
    """A model may have several faults at once."""
    assert findings(loaded(**fields), "phi3:mini", 4096) == found


@pytest.mark.parametrize("context_tokens", [None, 4096, 8192, 262_144])
def test_a_longer_context_is_as_good(context_tokens: int | None) -> None:
    """Only a shorter one is worth a word."""
    assert findings(loaded(context_tokens=context_tokens), "phi3:mini", 4096) == []


@pytest.mark.parametrize(
    ("size", "size_vram", "share", "words"),
    [(100, 100, 1.0, "100%"), (100, 37, 0.37, "37%"), (0, 0, 0.0, "0%"), (100, 200, 1.0, "100%")],
)
def test_the_share_on_the_gpu_is_a_share(size: int, size_vram: int, share: float, words: str) -> None:
    """Also where a server says odd things."""
    entry = loaded(size=size, size_vram=size_vram)
    assert entry.gpu_share == share
    assert entry.described == f"{words} on the GPU, context 4096"
    assert replace(entry, context_tokens=None).described == f"{words} on the GPU"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ChatUnavailable("", kind="unreachable"), Residency.UNREACHABLE),
        (ChatUnavailable("", kind="timeout"), Residency.SILENT),
        (ChatUnavailable("", kind="unknown-model"), Residency.MODEL_MISSING),
        (ChatUnavailable("", kind="busy"), Residency.FAILING),
        (ChatRejected(""), Residency.FAILING),
    ],
)
def test_an_error_says_where_the_model_is(error: ChatUnavailable | ChatRejected, state: Residency) -> None:
    """None of them is a state in which a question would be answered."""
    assert Residency.after(error) is state
    assert state not in RESIDENT


def test_what_was_on_the_gpu_is_worth_one_try() -> None:
    """One for each time that it is lost; small differences are none, and where there is no GPU nothing is lost."""
    memory = GpuMemory()
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
    """It is said where it runs, and that is all."""
    entry = loaded(size=100, size_vram=0)
    assert entry.described == "on the CPU, context 4096"
    assert findings(entry, "phi3:mini", 4096) == [Residency.ON_CPU]
    assert findings(entry, "phi3:mini", 4096, expects_gpu=False) == []
