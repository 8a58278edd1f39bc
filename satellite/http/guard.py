"""Stands before every request: who may, how often, how much, how long, and what a browser may do with the answer."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import nullcontext
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from satellite.config.http import HttpSettings
from satellite.errors import SatelliteError
from satellite.http.access_control import AccessControl
from satellite.http.error_codes import HttpError
from satellite.http.forwarded import Proxies
from satellite.http.problems import response_to
from satellite.http.rate_limit import RateLimit, Work
from satellite.tasks import begin_task

_LOGGER = logging.getLogger(__name__)

_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self'; media-src 'self' blob:; "
    "worker-src 'self' blob:; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}

_CLOSE = {"Connection": "close"}
"""What follows on such a connection is the rest of a request that nobody reads."""

_DISCARD_SECONDS = 3.0

_UNLIMITED = ("/", "/healthz", "/readyz", "/metrics")
"""What is not counted: it costs nothing, and those who watch must see also while somebody asks too much."""


class Guard:
    """Wraps the application; nothing that it raises passes."""

    def __init__(
        self, app: ASGIApp, settings: HttpSettings, access: AccessControl, rate: RateLimit, work: Work
    ) -> None:
        self._app = app
        self._settings = settings
        self._access = access
        self._proxies = Proxies(settings.trusted_proxies)
        self._rate = rate
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        scope["client"] = (self._proxies.client(scope), 0)
        client = _Client(scope, receive, send, self._settings)
        try:
            self._access.check(scope)
            self._check_token(scope, client)
            if scope["path"] not in _UNLIMITED and not scope["path"].startswith("/static/"):
                client.headers |= self._rate.take(client.address)
            await client.check_size()
            with self._work.one() if scope.get("method") == "POST" else nullcontext():
                # HEAD is GET whose body the client keeps back (RFC 9110, 9.3.2).
                asked = {**scope, "method": "GET"} if client.wants_head else scope
                await self._app(asked, client.receive, client.send)
        except asyncio.CancelledError:
            if not client.left:
                raise
        except SatelliteError as error:
            await client.fail(error)
        except Exception as error:  # the request boundary: whatever broke, the client is told
            if not client.left:
                _LOGGER.exception("%s: a request failed unexpectedly", scope["path"])
                await client.fail(SatelliteError(type(error).__name__))
        finally:
            client.close()

    def _check_token(self, scope: Scope, client: "_Client") -> None:
        """Raise `HttpError` for a client without the token; who has it is served however many others guess."""
        try:
            self._access.check_token(scope)
        except HttpError:
            self._rate.refuse(client.address)
            raise


class _Client:
    """The other end of one request: reading and writing are bounded in time, and its leaving ends the work."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: HttpSettings) -> None:
        self.address: str = scope["client"][0]
        self.headers: dict[str, str] = {}
        self.left = False
        self._scope = scope
        self._receive = receive
        self._send = send
        self._write_seconds = settings.write_timeout_seconds
        self._read_by = asyncio.get_running_loop().time() + settings.read_timeout_seconds
        self._read_seconds = settings.read_timeout_seconds
        self._bytes_left = settings.max_body_bytes
        self._too_large = f"the request is larger than {settings.max_body_bytes} bytes"
        self._abort: Callable[[], None] = scope.get("state", {}).get("abort", lambda: None)
        self._is_http = scope["type"] == "http"
        self.wants_head = scope.get("method") == "HEAD"
        self._complete = not self._is_http
        self._started = self._finished = False
        self._handler = asyncio.current_task()
        self._watch: asyncio.Task[None] | None = None

    async def check_size(self) -> None:
        """Raise `HttpError` for a request that says itself that it is too large."""
        headers = Headers(scope=self._scope)
        length = int(headers.get("content-length", "0"))  # a number: the parser has seen to that
        if self._is_http and length > self._bytes_left:
            if "expect" not in headers:
                await self._discard()
            raise HttpError(self._too_large, code="http-body-too-large", headers=_CLOSE)

    async def receive(self) -> Message:
        """Return what the client sends. Raises `HTTPException` for a request that is too large, or too slow."""
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._read_by):
                message = await self._receive()
        except TimeoutError:
            told = f"the request did not arrive within {self._read_seconds:g} s"
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, told, _CLOSE) from None
        self._bytes_left -= len(message.get("body", b""))
        if self._bytes_left < 0:
            if message.get("more_body", False):
                await self._discard()
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large, _CLOSE)
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._complete = True
            if self._scope["method"] == "POST":
                self._watch = begin_task(self._until_left(), f"watch {self.address}")
        return message

    async def _discard(self) -> None:
        """Read on for a while: a connection closed on a client that is still sending takes the answer with it."""
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while (await self._receive()).get("more_body", False):
                    pass
        except TimeoutError:
            return

    async def send(self, message: Message) -> None:
        """Send to the client; one that does not read is cut off."""
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self._started = True
            headers = MutableHeaders(scope=message)
            for name, value in (_SECURITY_HEADERS | self.headers).items():
                headers.setdefault(name, value)
            # What is the same for everybody may be kept, and is asked for again only if its ETag has changed.
            is_static = self._scope["path"].startswith("/static/")
            headers.setdefault("Cache-Control", "no-cache" if is_static else "no-store")
        elif message["type"] == "websocket.accept":
            self._started = True
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._finished = True
            self.close()
        try:
            async with asyncio.timeout(self._write_seconds):
                await self._send(message)
        except TimeoutError:
            _LOGGER.info("%s does not read, and is cut off", self.address)
            self.left = True
            self._abort()
            raise ConnectionResetError("the client does not read") from None
        if self.wants_head and message["type"] == "http.response.start":
            await self.send({"type": "http.response.body", "body": b""})
            self.left = True  # what follows is nobody's, and may be endless
            raise ConnectionResetError("there is no more to the answer to HEAD")

    async def fail(self, error: SatelliteError) -> None:
        """Tell the client of an error, or break off if it is too late for that."""
        if self._started:
            if not self._finished:
                self._abort()
            return
        response = response_to(self._scope["path"], error)
        prefix = "" if self._is_http else "websocket."
        start = {
            "type": f"{prefix}http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
        try:
            await self.send(start)
            await self.send({"type": f"{prefix}http.response.body", "body": bytes(response.body)})
        except ConnectionError:
            self.left = True

    def close(self) -> None:
        """The request is over."""
        if self._watch is not None:
            self._watch.cancel()

    async def _until_left(self) -> None:
        """End the work for a client that has gone: nobody would hear the answer."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._handler is not None and not self._handler.done():
            self.left = True
            self._handler.cancel()
