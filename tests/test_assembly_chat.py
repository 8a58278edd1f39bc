"""How the providers of the chat model are built."""

from pathlib import Path

from satellite.config.loader import parse
from satellite.daemon.assembly import Assembly
from satellite.models.store import Store
from satellite.tasks import Background

PROVIDERS = """
chat:
  providers:
    - {type: ollama, model: m}
    - {type: ollama, model: m, url: 'http://192.0.2.1:11434'}
    - {type: openai, model: m, name: vllm, url: 'http://192.0.2.3/v1'}
"""


async def test_providers_of_one_name_are_numbered(tmp_path: Path) -> None:
    background = Background()
    assembly = Assembly(parse(PROVIDERS), Store(tmp_path), background)
    chat = assembly.chat
    try:
        providers = chat.status.providers
        assert [one.provider for one in providers] == ["ollama", "ollama-2", "vllm"]
        assert [one.state for one in providers] == ["unknown", "unknown", "ready"]
        assert chat.health.up
    finally:
        await chat.close()
        for worker in assembly.workers.values():
            worker.close()
        await background.close()
