"""The settings of Home Assistant, which is asked before the chat model."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from satellite.config.base import DiskPath, HttpUrl, Seconds, SecretText, Settings


def _server(url: str) -> str:
    """Refuse an address with a page's path or a user in it, as copied from a browser."""
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.path.rstrip("/") not in ("", "/api"):
        raise ValueError("expected the address of the server alone, such as http://homeassistant.local:8123")
    return url


class HomeAssistantSettings(Settings):
    """Home Assistant, which is asked before the chat model; what it does not understand goes to the chat model."""

    url: Annotated[HttpUrl, AfterValidator(_server)] | None = None
    """Its address, such as http://homeassistant.local:8123; null disables it."""

    token: SecretText = None
    """Long-lived access token, created in the profile of a Home Assistant user; `token_file` is safer."""

    token_file: DiskPath | None = None
    """File with the token; null takes `token`, $HOME_ASSISTANT_TOKEN, or the credential home_assistant.token."""

    agent_id: str = Field("conversation.home_assistant", min_length=1)
    """Conversation agent there; the default matches sentences. It must not be the agent that this daemon provides."""

    deadline_seconds: Seconds = 1.0
    """Time for its answer, after which the chat model is asked instead, in seconds."""

    trust: Literal["system", "any"] | DiskPath = "system"
    """Accepted certificates of an https address: `system`, `any`, or a file with a CA or self-signed certificate."""
