"""Home Assistant's media players, on which rooms are heard whose sound goes there."""

import asyncio
import socket
from urllib.parse import urlsplit

from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.secrets import home_assistant_token
from satellite.errors import ChatUnavailable
from satellite.net.http_client import made_once
from satellite.skills.home_assistant.api import Api


class HomeAssistantPlayers:
    """Plays on media players by `media_player.play_media`. Everything raises `ChatError`."""

    def __init__(self, settings: HomeAssistantSettings) -> None:
        """Nothing is done, and no token looked for, before the first use; then `settings.url` must be set."""
        self._settings = settings
        self._host = urlsplit(settings.url or "").hostname or ""

    @made_once
    def _api(self) -> Api:
        return Api(self._settings, home_assistant_token(self._settings).find_or_explain())

    async def address(self) -> str:
        """Return the IP address of Home Assistant, in whose network its players are."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ChatUnavailable(f"{self._host} is not found: {error.strerror}", kind="unreachable") from error
        return str(found[0][4][0])

    async def play(self, entity: str, url: str) -> None:
        """Have a player fetch and play a sound; one that can goes on with what it plays afterwards."""
        about = {"media_content_id": url, "media_content_type": "music", "announce": True}
        await self._api.call("media_player/play_media", {"entity_id": entity, **about})

    async def stop(self, entity: str) -> None:
        """Stop what a player plays."""
        await self._api.call("media_player/media_stop", {"entity_id": entity})

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        if "_api" in self.__dict__:
            await self._api.close()
