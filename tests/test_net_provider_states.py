"""One table of a provider's states: whoever tells of one says what it means, and what mends it."""

import re
from pathlib import Path

import pytest

from satellite.cli.doctor.chat_providers import remedy_of
from satellite.config.chat import LocalSettings, OllamaSettings, OpenAISettings, ProviderSettings
from satellite.engines.chat.keepalive.loaded_models import ModelState
from satellite.errors import ChatUnavailable
from satellite.net.provider_states import COMING, TONES, Tone, state_after

DOCS = Path(__file__).parent.parent / "docs"


def test_every_state_of_a_model_is_in_the_table_and_has_words() -> None:
    assert {state.value for state in ModelState} <= TONES.keys()
    assert TONES.keys() >= COMING


PROVIDERS = (
    LocalSettings(type="local"),
    OllamaSettings(type="ollama", model="phi3:mini"),
    OpenAISettings(type="openai", model="llama"),
)


@pytest.mark.parametrize("kind", ["unreachable", "timeout", "slow", "unknown-model", "rate-limited", "busy", "empty"])
def test_whatever_a_provider_fails_of_is_a_state(kind: str) -> None:
    assert TONES[state_after(ChatUnavailable("it fails", kind=kind))] is not Tone.GOOD


@pytest.mark.parametrize("page", ["chat.md", "troubleshooting.md"])
def test_the_documents_list_every_state(page: str) -> None:
    named = set(re.findall(r"`([a-z-]+)`", (DOCS / page).read_text(encoding="utf-8")))
    assert TONES.keys() - named == set()


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: str(provider.type))
def test_the_doctor_knows_a_cure_for_every_bad_state(provider: ProviderSettings) -> None:
    assert all(remedy_of(state, provider) for state, tone in TONES.items() if tone is Tone.BAD)
