"""The key of a chat model behind an API."""

import re

from satellite.config.chat import OllamaSettings, OpenAISettings
from satellite.config.secrets import Secret, Whereabouts


def find_key(settings: OllamaSettings | OpenAISettings) -> Secret:
    """Return the key; see `Whereabouts.find`."""
    return whereabouts(settings).find()


def whereabouts(settings: OllamaSettings | OpenAISettings) -> Whereabouts:
    """Return where the key may be."""
    return Whereabouts(
        name="the key",
        kind="key",
        file=settings.api_key_file,
        file_setting="api_key_file",
        variable=re.sub(r"\W", "_", settings.name, flags=re.ASCII).upper() + "_API_KEY",
        credential=f"{settings.name}.key",
    )
