"""Which models a configuration needs."""

from satellite.config.settings import Config, Local
from satellite.models import catalogue
from satellite.models.spec import Kind, ModelSpec


def wanted_models(config: Config) -> list[ModelSpec]:
    """Return the models that `config` runs in the daemon, in the order of the stages."""
    specs = []
    if not config.wake.uri:
        specs.append(catalogue.find(Kind.WAKE, config.wake.engine))
    if not config.stt.uri:
        specs.append(catalogue.find(Kind.STT, config.stt.model))
    if not config.tts.uri:
        specs.append(catalogue.find(Kind.TTS, config.tts.voice))
    return specs + [
        catalogue.find(Kind.CHAT, provider.model) for provider in config.chat.providers if isinstance(provider, Local)
    ]
