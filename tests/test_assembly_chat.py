"""How the providers of the chat model are built: each by its own name, and none at the cost of the others."""

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


async def test_a_provider_that_cannot_be_built_leaves_the_others_alone(tmp_path: Path) -> None:
    """It stands in the status with what is wrong with it, and two of a name are told apart."""
    config = parse(PROVIDERS)
    broken = config.chat.providers[0].model_copy(update={"url": "http://[::1"})  # past all that `check` looks at
    chat = config.chat.model_copy(update={"providers": (*config.chat.providers, broken)})
    background = Background()
    assembly = Assembly(config.model_copy(update={"chat": chat}), Store(tmp_path), background)
    route = assembly.chat
    try:
        told = route.status.providers
        assert [one.provider for one in told] == ["ollama", "ollama-2", "vllm", "ollama-3"]
        assert [one.state for one in told] == ["unknown", "unknown", "ready", "misconfigured"]
        assert "ollama-3 cannot be used: ValueError: Invalid IPv6 URL" in told[3].summary
        assert route.health.up
    finally:
        await route.close()
        for worker in assembly.workers.values():
            worker.close()
        await background.close()
