"""Home Assistant's REST API: a sentence is sent once, and a probe finds out whether the server is ready."""

import asyncio
import json
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.secrets import Secret
from satellite.errors import ChatError, ChatRejected, ChatUnavailable, ConfigError, shown
from satellite.net.http_client import client_settings, is_at_home, made_once, shown_url
from satellite.skills.home_assistant.response import ConversationResult, parsed

if TYPE_CHECKING:
    import httpx

_CONNECT_SECONDS = 2.0
_PROBE_SECONDS = 5.0
_IDLE_SECONDS = 60.0
"""How long an idle connection is kept: less than the 75 s after which Home Assistant closes it."""

_LONGEST_BYTES = 1 << 20
_LONGEST_REASON = 200

_TARGETS = """[{% for place in places %}
{%- set devices = ([device_id(place.device)] if place.device else []) + (area_devices(place.area) | list) %}
{{- [devices | select | first | default(""), area_entities(place.area) | first | default("")] | to_json }}
{{- "" if loop.last else "," }}{% endfor %}]"""
"""Template that returns, for each room, its own device or one of its area, and an entity of the area, as JSON."""


class _UnknownKey(ChatUnavailable):
    """It is too old to know a key that was sent, and has done nothing."""


@dataclass(frozen=True, slots=True)
class RoomQuery:
    """A room to be found, by what Home Assistant may call it."""

    area: str
    device: str = ""
    """The satellite that Home Assistant knows the room by, if there is one."""


@dataclass(frozen=True, slots=True)
class RoomTarget:
    """A device in a room, or an entity in its area; both are None where there is neither."""

    device: str | None = None
    entity: str | None = None


_NO_TARGET = RoomTarget()


class Api:
    """The methods raise `ChatError`, in none of whose messages or tracebacks the token is."""

    def __init__(self, settings: HomeAssistantSettings, token: Secret) -> None:
        """Raises `ConfigError` for a certificate to trust that cannot be read."""
        assert settings.url is not None
        url = shown_url(settings.url).removesuffix("/api")
        self.leaves_house = not is_at_home(url)
        """Whether what people say leaves the house."""

        self.server = f"Home Assistant at {url}"
        self._agent_id = settings.agent_id
        self._takes_targets = True
        self._token = token
        self._url = url
        # Reading has no timeout: Home Assistant stops in the middle of an action when its client hangs up.
        self._connect_seconds = min(settings.deadline_seconds, _CONNECT_SECONDS)
        # Loading certificates takes tens of milliseconds, which an http address does not need.
        self._verify = _trusted(settings) if url.startswith("https:") else False

    @made_once
    def _client(self) -> "httpx.AsyncClient":
        """The client; its first use imports the library, unless `load` has."""
        import httpx

        return httpx.AsyncClient(
            base_url=self._url,
            headers={
                "Authorization": f"Bearer {self._token.value}",
                "User-Agent": "satellite",  # Home Assistant logs it beside a token that it refuses
                "Accept-Encoding": "identity",
            },
            timeout=httpx.Timeout(self._connect_seconds, read=None),
            limits=httpx.Limits(keepalive_expiry=_IDLE_SECONDS),
            **(client_settings(self._url) | {"verify": self._verify}),
        )

    async def load(self) -> None:
        """Import the library and make the client in a thread; a failure comes up again at the first use."""
        # The library takes tenths of a second to import, and certificates are read from disk.
        with suppress(ChatError):
            await asyncio.to_thread(lambda: self._client)

    async def converse(
        self,
        text: str,
        language: str | None,
        conversation: str,
        given_up: asyncio.Event,
        target: RoomTarget = _NO_TARGET,
    ) -> ConversationResult:
        """Send a sentence once, unless it is `given_up` before it leaves, and return the answer, however late.

        `target` is what it was said to; servers that are too old to know the keys are asked without it.
        """
        import httpx

        async def trace(event: str, _: object) -> None:
            # Cancelling the request instead would let httpcore leave a half-made TLS connection open.
            if given_up.is_set() and event == "http11.send_request_headers.started":
                raise httpx.WriteError("nobody waits for the answer any more")

        body = {"text": text, "agent_id": self._agent_id, "conversation_id": conversation}
        if language:
            body["language"] = language
        keys = {"device_id": target.device, "satellite_id": target.entity} if self._takes_targets else {}
        place = {key: value for key, value in keys.items() if value}
        path = "/api/conversation/process"
        extensions: dict[str, object] = {"trace": trace}
        try:
            result = parsed(await self._asked("POST", path, body | place, extensions))
        except _UnknownKey:
            self._takes_targets = False  # it refused the whole request, so sending it again does nothing twice
            result = parsed(await self._asked("POST", path, body, extensions))
        if result is None:
            raise self._not_home_assistant()
        return result

    async def probe(self) -> str:
        """Return the version of a server that is ready for sentences; raises `ChatError` for one that is not."""
        # Not `/api/`, which answers long before sentences can be sent and devices are known.
        return self._version_if_ready(await self._asked_briefly("GET", "/api/config"))

    async def find(self, rooms: Sequence[RoomQuery]) -> list[RoomTarget]:
        """Return the device or entity of each of `rooms`; `/api/template` is open to administrators only."""
        variables = {"places": [asdict(room) for room in rooms]}
        rows = await self._asked_briefly("POST", "/api/template", {"template": _TARGETS, "variables": variables})
        return self._targets(rows, len(rooms))

    async def call(self, action: str, data: dict[str, object]) -> None:
        """Carry out an action, such as `media_player/media_stop`."""
        await self._asked_briefly("POST", f"/api/services/{action}", data)

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        if "_client" in self.__dict__:
            await self._client.aclose()

    def _targets(self, rows: object, count: int) -> list[RoomTarget]:
        """Return what a rendered template says; it may hold anything that a server sends."""
        if not isinstance(rows, list) or len(rows) != count:
            raise self._not_home_assistant()
        targets = []
        for row in rows:
            if not isinstance(row, list) or len(row) != 2 or not all(isinstance(name, str) for name in row):
                raise self._not_home_assistant()
            device, entity = row
            # A device brings its area with it; an entity is only asked for where the area has no device.
            targets.append(RoomTarget(device or None, None if device else entity or None))
        return targets

    def _version_if_ready(self, config: object) -> str:
        if not isinstance(config, dict) or not isinstance(config.get("components"), list):
            raise self._not_home_assistant()
        if config.get("state", "RUNNING") != "RUNNING":
            raise ChatUnavailable(f"{self.server} is starting or stopping", kind="not-ready")
        if "conversation" not in config["components"]:
            raise ChatUnavailable(f"{self.server} has no conversation integration; add `conversation:` there")
        return str(config.get("version", ""))

    async def _asked_briefly(self, method: str, path: str, body: object = None) -> object:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PROBE_SECONDS):
                return await self._asked(method, path, body)
        raise ChatUnavailable(f"{self.server} is silent", kind="timeout")

    async def _asked(
        self, method: str, path: str, body: object = None, extensions: dict[str, object] | None = None
    ) -> object:
        import httpx

        try:
            async with self._client.stream(method, path, json=body, extensions=extensions) as response:
                status, content = response.status_code, await _read(response)
        # InvalidURL: a redirection that is not followed is parsed all the same. RuntimeError: the client is closed.
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RuntimeError) as foreign:
            problem = self._translated(foreign)
        else:
            document = _document(content)
            if status == HTTPStatus.OK:
                return document
            problem = self._refusal(status, document, content)
        # Raised outside the handler: the library's error, which Python would chain, may quote the token.
        raise problem

    def _translated(self, foreign: Exception) -> ChatError:
        import httpx

        if isinstance(foreign, httpx.ConnectError | httpx.ConnectTimeout):
            reason = self._token.scrub(str(foreign)) or "no answer"
            if "CERTIFICATE" in reason:
                reason += " (home_assistant.trust names the certificates to trust)"
            return ChatUnavailable(f"{self.server} cannot be reached: {reason}", kind="unreachable")
        reason = self._token.scrub(str(foreign)) or type(foreign).__name__
        return ChatUnavailable(f"{self.server} broke off: {reason}")

    def _refusal(self, status: int, document: object, content: bytes) -> ChatError:
        said = document.get("message") if isinstance(document, dict) else None
        text = self._token.scrub(str(said) if said else content.decode(errors="replace"))
        reason = shown(" ".join(text.split()), _LONGEST_REASON)
        answered = f"{self.server} answered {status}"
        match status:
            case 401:
                remedy = "make a long-lived access token in your profile there, and restart"
                return ChatRejected(
                    f"{answered}: it refuses the token from {self._token.source}; {remedy}", kind="refused"
                )
            case 403:
                remedy = "it may have banned this machine, see ip_bans.yaml in its configuration"
                return ChatRejected(f"{answered}: {remedy}", kind="refused")
            case 404 | 502 | 503 | 504:
                return ChatUnavailable(
                    f"{answered}: it is starting or stopping, or url is another server's", kind="not-ready"
                )
            case 400 if "extra keys" in reason and ("device_id" in reason or "satellite_id" in reason):
                return _UnknownKey(f"{answered}: {reason}")
            case 400:
                return ChatUnavailable(f"{answered}: {reason} (agent_id is {self._agent_id})")
            case _ if 200 <= status < 400:
                return self._not_home_assistant()
        return ChatUnavailable(f"{answered}: {reason}")

    def _not_home_assistant(self) -> ChatError:
        return ChatUnavailable(
            f"{self.server} does not answer like Home Assistant; is there a login page in front of it?"
        )


def _trusted(settings: HomeAssistantSettings) -> ssl.SSLContext | bool:
    if settings.trust == "any":
        return False
    file = None if settings.trust == "system" else settings.trust
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the certificate in {file} cannot be used: {error}") from error


async def _read(response: "httpx.Response") -> bytes:
    import httpx

    content = b""
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > _LONGEST_BYTES:
            raise httpx.ReadError("the answer is too long")
    return content


def _document(content: bytes) -> object:
    """Return the JSON in `content`; None for anything else."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
