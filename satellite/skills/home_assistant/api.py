"""Home Assistant's REST API: a sentence sent once, and a look at how the server is."""

import asyncio
import json
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.secrets import Secret
from satellite.errors import ChatError, ChatRejected, ChatUnavailable, ConfigError, shown
from satellite.net.http_client import client_settings, is_at_home, made_once, shown_url
from satellite.skills.home_assistant.areas import Found, Wanted
from satellite.skills.home_assistant.response import Answer, parsed

if TYPE_CHECKING:
    import httpx

_CONNECT_SECONDS = 2.0
_LOOK_SECONDS = 5.0
_IDLE_SECONDS = 60.0
"""How long a connection is kept; Home Assistant closes one after 75 s."""

_LONGEST_BYTES = 1 << 20
_LONGEST_REASON = 200
_NOWHERE = Found()


_PLACES = """[{% for place in places %}
{%- set devices = ([device_id(place.device)] if place.device else []) + (area_devices(place.area) | list) %}
{{- [devices | select | first | default(""), area_entities(place.area) | first | default("")] | to_json }}
{{- "" if loop.last else "," }}{% endfor %}]"""
"""For each place a device of its own, else one of its area, and an entity of the area, as JSON."""


class _UnknownKey(ChatUnavailable):
    """It is older than a key that was sent, and has done nothing."""


@dataclass(slots=True)
class Departure:
    """Whether a request may still leave."""

    barred: bool = False
    """A request that is to stay is not cancelled: httpcore would leave a half-made TLS connection open."""


class Api:
    """Raises `ChatError`; the token is in no message, log, repr or traceback."""

    def __init__(self, settings: HomeAssistantSettings, token: Secret) -> None:
        """Raises `ConfigError` where the certificate to trust cannot be read."""
        assert settings.url is not None
        url = shown_url(settings.url).removesuffix("/api")
        self.leaves_house = not is_at_home(url)
        """Whether what people say leaves the house."""

        self.server = f"Home Assistant at {url}"
        self._agent_id = settings.agent_id
        self._knows_places = True
        self._token = token
        self._url = url
        # Reading has no limit here: hanging up makes Home Assistant stop in the middle of what it does.
        self._connect_seconds = min(settings.deadline_seconds, _CONNECT_SECONDS)
        self._verify = _trusted(settings) if url.startswith("https:") else False

    @made_once
    def _client(self) -> "httpx.AsyncClient":
        """The client; the first to use it waits for its library, unless it has been loaded."""
        import httpx

        return httpx.AsyncClient(
            base_url=self._url,
            headers={
                "Authorization": f"Bearer {self._token.value}",
                "User-Agent": "satellite",  # Home Assistant logs it with a token that it refuses
                "Accept-Encoding": "identity",
            },
            timeout=httpx.Timeout(self._connect_seconds, read=None),
            limits=httpx.Limits(keepalive_expiry=_IDLE_SECONDS),
            **(client_settings(self._url) | {"verify": self._verify}),
        )

    async def load(self) -> None:
        """Import the library, and make the client, in a thread; what is wrong with that is told by whoever uses it."""
        with suppress(ChatError):
            await asyncio.to_thread(lambda: self._client)

    async def converse(
        self, text: str, language: str | None, conversation: str, departure: Departure, where: Found = _NOWHERE
    ) -> Answer:
        """Send a sentence, once and unless it is barred by then, and return the answer, however late.

        `where` is the device or entity that it was said to; a server that is too old for it is not told.
        """
        import httpx

        async def trace(event: str, _: dict[str, Any]) -> None:
            if departure.barred and event == "http11.send_request_headers.started":
                raise httpx.WriteError("nobody waits for the answer any more")

        body = {"text": text, "agent_id": self._agent_id, "conversation_id": conversation}
        if language:
            body["language"] = language
        told = {"device_id": where.device, "satellite_id": where.entity} if self._knows_places else {}
        place = {key: value for key, value in told.items() if value}
        path, extensions = "/api/conversation/process", {"trace": trace}
        try:
            answer = parsed(await self._asked("POST", path, body | place, extensions))
        except _UnknownKey:
            self._knows_places = False
            answer = parsed(await self._asked("POST", path, body, extensions))
        if answer is None:
            raise self._not_home_assistant()
        return answer

    async def look(self) -> str:
        """Return the version of a server that is ready for sentences; raises `ChatError` for one that is not.

        Not by `/api/`, which answers long before sentences can be sent and devices are known.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                return self._version_if_ready(await self._asked("GET", "/api/config"))
        raise ChatUnavailable(f"{self.server} is silent", kind="timeout")

    async def find(self, places: Sequence[Wanted]) -> list[Found]:
        """Return what stands for each of `places`; it is asked by `/api/template`, which administrators may use."""
        variables = {"places": [{"area": place.area, "device": place.device} for place in places]}
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                rows = await self._asked("POST", "/api/template", {"template": _PLACES, "variables": variables})
                return self._found(rows, len(places))
        raise ChatUnavailable(f"{self.server} is silent", kind="timeout")

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        if "_client" in self.__dict__:
            await self._client.aclose()

    def _found(self, rows: Any, count: int) -> list[Found]:
        """Return what the answer to the template says, which is whatever a server sends."""
        if not isinstance(rows, list) or len(rows) != count:
            raise self._not_home_assistant()
        found = []
        for row in rows:
            if not isinstance(row, list) or len(row) != 2 or not all(isinstance(name, str) for name in row):
                raise self._not_home_assistant()
            device, entity = row
            # An entity stands for its area only where it was put there itself, as where no device is.
            found.append(Found(device or None, None if device else entity or None))
        return found

    def _version_if_ready(self, config: Any) -> str:
        if not isinstance(config, dict) or not isinstance(config.get("components"), list):
            raise self._not_home_assistant()
        if config.get("state", "RUNNING") != "RUNNING":
            raise ChatUnavailable(f"{self.server} is starting or stopping", kind="not-ready")
        if "conversation" not in config["components"]:
            raise ChatUnavailable(f"{self.server} has no conversation integration; add `conversation:` there")
        return str(config.get("version", ""))

    async def _asked(self, method: str, path: str, body: Any = None, extensions: dict[str, Any] | None = None) -> Any:
        try:
            async with self._client.stream(method, path, json=body, extensions=extensions) as response:
                status, content = response.status_code, await _read(response)
        except Exception as foreign:  # noqa: BLE001  # the engine seam: a library's error may quote the token
            problem = self._translated(foreign)
        else:
            document = _document(content)
            if status == HTTPStatus.OK:
                return document
            problem = self._refusal(status, document, content)
        # Outside the handlers, or Python would chain to ours the library's error.
        raise problem

    def _translated(self, foreign: Exception) -> ChatError:
        import httpx

        if isinstance(foreign, ChatError):
            return foreign
        if isinstance(foreign, httpx.ConnectError | httpx.ConnectTimeout):
            reason = self._token.scrub(str(foreign)) or "no answer"
            if "CERTIFICATE" in reason:
                reason += " (home_assistant.trust names the certificates to trust)"
            return ChatUnavailable(f"{self.server} cannot be reached: {reason}", kind="unreachable")
        reason = self._token.scrub(str(foreign)) or type(foreign).__name__
        return ChatUnavailable(f"{self.server} broke off: {reason}")

    def _refusal(self, status: int, document: Any, content: bytes) -> ChatError:
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
            f"{self.server} answers as no Home Assistant does; is there a login page in front of it?"
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
    async for piece in response.aiter_bytes():  # closed with the response
        content += piece
        if len(content) > _LONGEST_BYTES:
            raise httpx.ReadError("the answer is too long")
    return content


def _document(content: bytes) -> Any:
    """Return the JSON in `content`; None for anything else."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
