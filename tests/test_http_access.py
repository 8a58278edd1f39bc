"""Which requests are answered: tokens, host names, origins, rates, sizes and times."""

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from satellite.config.http import HttpSettings
from satellite.errors import CannotListen
from satellite.http.http_service import HttpService
from tests.http_daemon import RIGHT, TIME, TOKEN, client, problem, refusal, serving, ws
from tests.running_daemon import RunningDaemon
from tests.waiting import PATIENCE_SECONDS, eventually

EVIL = {"Origin": "https://evil.example"}
FRIEND = {"Origin": "https://home.example"}
LONG = {"text": "One sentence after the other is spoken here. " * 60}
PCM = {"Accept": "audio/pcm"}


@pytest.fixture
def guarded(daemon: RunningDaemon) -> Iterator[httpx.Client]:
    """A server with a token, a second name, and another site whose pages may use it."""
    elsewhere: dict[str, Any] = {"allowed_hosts": ["home.lan"], "cors_origins": [FRIEND["Origin"]]}
    with serving(daemon, token=TOKEN, requests_per_minute=100_000, **elsewhere) as http:
        yield http


def test_a_token_is_needed_once_there_is_one(guarded: httpx.Client) -> None:
    for path in ("/status", "/runs", "/openapi.json", "/metrics", "/readyz", "/nowhere"):
        response = guarded.get(path)
        assert refusal(response) == (401, "http-unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"
    for given in ("Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN}x", "Bearer \xe9"):
        assert guarded.get("/status", headers={b"Authorization": given.encode("latin-1")}).status_code == 401
    assert guarded.get("/status", params={"token": TOKEN}).status_code == 401
    assert guarded.get("/status", headers=RIGHT).status_code == 200
    for path in ("/healthz", "/", "/static/index.html"):
        assert guarded.get(path).status_code == 200


def test_a_browser_may_send_the_token_in_the_address(guarded: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with guarded.stream("GET", "/events", params={"token": TOKEN}) as stream:
        assert next(stream.iter_lines()) == "event: status"
    address = ws(guarded)
    for url, headers in ((f"{address}?token={TOKEN}", {}), (address, RIGHT)):
        with connect(url, additional_headers=headers) as connection:
            assert json.loads(connection.recv())["type"] == "ready"
    for wrong in (address, f"{address}?token=no"):
        with pytest.raises(InvalidStatus) as refused, connect(wrong):
            pass
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body)["code"] == "http-unauthorized"
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("satellite", "uvicorn"))]
    assert not [line for line in ours if TOKEN in line]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example", "[::1"])
def test_names_that_are_not_ours_are_refused(http: httpx.Client, host: str) -> None:
    assert refusal(http.get("/status", headers={"Host": host})) == (421, "http-host-refused")


def test_somebody_who_opens_a_page_is_refused_by_a_page(guarded: httpx.Client) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    refused = guarded.get("/room", headers={**browser, "Host": "<b>.example"})
    assert (refused.status_code, refused.headers["content-type"]) == (421, "text/html; charset=utf-8")
    assert "<p>Host “&lt;b&gt;.example” is not allowed; add it to http.allowed_hosts" in refused.text
    assert "<code>421 http-host-refused</code>" in refused.text
    for path in ("/status", "/rooom"):
        page = guarded.get(path, headers=browser).text
        assert "the pages / and /room ask for it.</p>" in page
        assert "401 http-unauthorized" in page
    page = guarded.get("/<b>", headers={**browser, **RIGHT}).text
    assert "<p>Nothing answers GET /&lt;b&gt;; / is the dashboard" in page
    assert "404 http-not-found" in page


def test_who_asks_in_the_wrong_way_is_told_the_right_one(http: httpx.Client) -> None:
    assert problem(http.get("/rooms/hall"))["detail"].startswith("nothing answers GET /rooms/hall; ")
    assert problem(http.request("DELETE", "/chat"))["detail"] == "nothing answers DELETE /chat, only POST"
    assert problem(http.post("/status"))["detail"] == "nothing answers POST /status, only GET, HEAD"


def test_names_that_are_ours(guarded: httpx.Client) -> None:
    for host in ("127.0.0.1", "localhost:10800", "LOCALHOST.", "[::1]:10800", "192.168.1.2", "home.lan"):
        assert guarded.get("/status", headers={"Host": host, **RIGHT}).status_code == 200, host


def test_pages_elsewhere_may_not_use_it(http: httpx.Client) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://[", "http://a]b", ""):
        refused = http.post("/announce", json={"text": "x"}, headers={"Origin": origin})
        assert refusal(refused) == (403, "http-origin-refused")
    assert http.get("/status", headers={"Origin": str(http.base_url).rstrip("/")}).status_code == 200
    with pytest.raises(InvalidStatus) as refusal_, connect(ws(http), origin=Origin("http://a.b")):
        pass
    assert refusal_.value.response.status_code == 403
    ask = {**EVIL, "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in http.options("/chat", headers=ask).headers


def test_pages_that_are_allowed(guarded: httpx.Client) -> None:
    ask = {**FRIEND, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answers = [guarded.options("/chat", headers=ask), guarded.get("/status", headers={**FRIEND, **RIGHT})]
    assert [one.headers["access-control-allow-origin"] for one in answers] == [FRIEND["Origin"]] * 2
    assert guarded.get("/status", headers=FRIEND).status_code == 401
    assert problem(guarded.get("/status", headers=EVIL))["code"] == "http-origin-refused"


def test_the_remaining_count_is_true(daemon: RunningDaemon) -> None:
    with serving(daemon, requests_per_minute=5) as http:
        for left in (4, 3, 2, 1, 0):
            headers = http.get("/rooms").headers
            assert (headers["ratelimit-remaining"], headers["ratelimit-limit"]) == (str(left), "5")
            assert 0 < int(headers["ratelimit-reset"]) <= 60
        refused = http.get("/rooms")
        assert refusal(refused) == (429, "http-rate-limited")
        assert refused.headers["ratelimit-remaining"] == "0"
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert http.get("/healthz").status_code == 200


def test_too_much_at_once_is_refused(daemon: RunningDaemon) -> None:
    with serving(daemon, max_concurrent=1) as http:
        with http.stream("POST", "/tts", json=LONG, headers=PCM) as stream:
            parts = stream.iter_raw()
            next(parts)
            with client(http.base_url.port or 0) as other:
                refused = other.post("/chat", json=TIME)
                assert refusal(refused) == (503, "http-busy")
                assert int(refused.headers["retry-after"]) >= 1
                assert other.get("/rooms").status_code == 200
        # The client that left has freed its place.
        eventually(lambda: http.post("/chat", json=TIME).status_code == 200)


def sent(http: httpx.Client, head: bytes, body: bytes, buffer: int = 65_536) -> socket.socket:
    """Return a connection on which a POST has been sent; it takes little more than `buffer` bytes unread."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(PATIENCE_SECONDS)
    connection.connect(("127.0.0.1", http.base_url.port))
    connection.sendall(b"POST %b\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n" % head + body)
    return connection


def test_a_request_that_does_not_arrive(daemon: RunningDaemon) -> None:
    with (
        serving(daemon, read_timeout_seconds=0.3) as http,
        sent(http, b"/chat HTTP/1.1\r\nContent-Length: 100", b"{") as slow,
    ):
        assert http.get("/rooms").status_code == 200
        answer = slow.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 408")
        while part := slow.recv(10_000):
            answer += part
        assert b'"code": "http-timeout"' in answer


def test_a_body_without_a_length_is_bounded_too(daemon: RunningDaemon) -> None:
    with serving(daemon, max_body_bytes=10_000) as http:
        for content in ((bytes(1000) for _ in range(20)), bytes(10_001)):
            assert refusal(http.post("/stt", content=content)) == (413, "http-body-too-large")


def test_a_client_that_does_not_read_its_sound(daemon: RunningDaemon) -> None:
    body = json.dumps({"text": "Here is a sentence that is spoken. " * 150}).encode()
    head = b"/tts HTTP/1.1\r\nAccept: audio/pcm\r\nContent-Length: %d" % len(body)
    with serving(daemon, write_timeout_seconds=0.3, max_concurrent=1) as http, sent(http, head, body, buffer=4096):
        eventually(lambda: http.post("/chat", json=TIME).status_code != 200)
        eventually(lambda: http.post("/chat", json=TIME).status_code == 200)
    daemon.settle()


def test_stopping_ends_every_connection(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as stack:
        with serving(daemon) as http:
            other = stack.enter_context(client(http.base_url.port or 0))
            lines = stack.enter_context(other.stream("GET", "/events")).iter_lines()
            sound = stack.enter_context(other.stream("POST", "/tts", json=LONG, headers=PCM)).iter_raw()
            talk = stack.enter_context(connect(ws(http)))
            for begin in (lambda: next(lines), lambda: next(sound), talk.recv):
                begin()
        for end in (lambda: list(lines), lambda: list(sound), lambda: list(talk)):
            with suppress(httpx.HTTPError, ConnectionClosed):
                end()
    daemon.settle()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_answers_are_not_held_back(daemon: RunningDaemon, http: httpx.Client) -> None:
    assert http.get("/healthz").status_code == 200
    server = daemon.daemon._http._server
    assert server is not None
    sockets = [one.transport.get_extra_info("socket") for one in server.server_state.connections]
    assert sockets
    assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets)


async def test_a_port_in_use_is_reported(daemon: RunningDaemon) -> None:
    with pytest.raises(CannotListen, match=f"127.0.0.1:{daemon.port('http')}"):
        await HttpService(daemon.daemon._http._context).start(daemon.port("http"))


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("home", False)]
)
def test_what_only_this_machine_can_reach(host: str, local: bool) -> None:
    assert HttpSettings(host=host).is_local is local
