"""Which requests are answered: tokens, host names, origins, rates, sizes and times."""

import json
import logging
import socket
from contextlib import ExitStack, suppress

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from satellite.config.http import HttpSettings
from satellite.config.loader import parse
from satellite.daemon.config_check import check
from satellite.errors import CannotListen, ConfigError
from satellite.http.http_service import HttpService
from tests.http_daemon import client, problem, serving
from tests.running_daemon import RunningDaemon
from tests.waiting import PATIENCE_SECONDS, eventually

TOKEN = "a-token-of-the-house"
PAGE = {"Origin": "https://evil.example"}


def test_a_token_is_needed_once_there_is_one(daemon: RunningDaemon) -> None:
    with serving(daemon, token=TOKEN) as http:
        for path in ("/status", "/runs", "/openapi.json", "/metrics", "/readyz", "/nowhere"):
            response = http.get(path)
            assert problem(response)["code"] == "http-unauthorized"
            assert response.headers["www-authenticate"] == "Bearer"
        for given in ("Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN}x", "Bearer \xe9"):
            assert http.get("/status", headers={b"Authorization": given.encode("latin-1")}).status_code == 401
        assert http.get("/status", params={"token": TOKEN}).status_code == 401
        assert http.get("/status", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        for path in ("/healthz", "/", "/static/index.html"):
            assert http.get(path).status_code == 200


def test_a_browser_may_send_the_token_in_the_address(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(daemon, token=TOKEN) as http:
        with http.stream("GET", "/events", params={"token": TOKEN}) as stream:
            assert next(stream.iter_lines()) == "event: status"
        address = f"ws://127.0.0.1:{http.base_url.port}/ws"
        with connect(f"{address}?token={TOKEN}") as connection:
            assert json.loads(connection.recv())["type"] == "ready"
        with connect(address, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as connection:
            assert json.loads(connection.recv())["type"] == "ready"
        for wrong in (address, f"{address}?token=no"):
            with pytest.raises(InvalidStatus) as refused, connect(wrong):
                pass
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body)["code"] == "http-unauthorized"
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("satellite", "uvicorn"))]
    assert not [line for line in ours if TOKEN in line]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example", "[::1"])
def test_names_that_are_not_ours_are_refused(daemon: RunningDaemon, host: str) -> None:
    with client(daemon) as http:
        assert problem(http.get("/status", headers={"Host": host}))["code"] == "http-host-refused"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:10800", "LOCALHOST.", "[::1]:10800", "192.168.1.2", "home.lan"]
)
def test_names_that_are_ours(daemon: RunningDaemon, host: str) -> None:
    with serving(daemon, allowed_hosts=["home.lan"]) as http:
        assert http.get("/status", headers={"Host": host}).status_code == 200


def test_pages_elsewhere_may_not_use_it(daemon: RunningDaemon) -> None:
    with client(daemon) as http:
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            refused = http.post("/announce", json={"text": "x"}, headers={"Origin": origin})
            assert problem(refused)["code"] == "http-origin-refused"
        assert http.get("/status", headers={"Origin": str(http.base_url).rstrip("/")}).status_code == 200
        address = f"ws://127.0.0.1:{daemon.port('http')}/ws"
        with pytest.raises(InvalidStatus) as refusal, connect(address, origin=Origin("http://a.b")):
            pass
        assert refusal.value.response.status_code == 403
        ask = {**PAGE, "Access-Control-Request-Method": "POST"}
        assert "access-control-allow-origin" not in http.options("/chat", headers=ask).headers


def test_pages_that_are_allowed(daemon: RunningDaemon) -> None:
    with serving(daemon, cors_origins=["https://home.example"], token=TOKEN) as http:
        page = {"Origin": "https://home.example"}
        ask = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        allowed = http.options("/chat", headers=ask)
        assert allowed.headers["access-control-allow-origin"] == "https://home.example"
        assert http.get("/status", headers=page).status_code == 401
        given = http.get("/status", headers={**page, "Authorization": f"Bearer {TOKEN}"})
        assert given.headers["access-control-allow-origin"] == "https://home.example"
        assert problem(http.get("/status", headers=PAGE))["code"] == "http-origin-refused"


def test_the_remaining_count_is_true(daemon: RunningDaemon) -> None:
    with serving(daemon, requests_per_minute=5) as http:
        for left in (4, 3, 2, 1, 0):
            headers = http.get("/rooms").headers
            assert headers["ratelimit-remaining"] == str(left)
            assert headers["ratelimit-limit"] == "5"
            assert 0 < int(headers["ratelimit-reset"]) <= 60
        refused = http.get("/rooms")
        assert problem(refused)["code"] == "http-rate-limited"
        assert refused.headers["ratelimit-remaining"] == "0"
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert http.get("/healthz").status_code == 200


def test_wrong_tokens_are_counted(daemon: RunningDaemon) -> None:
    with serving(daemon, requests_per_minute=20, token=TOKEN) as http:
        codes = [http.get("/status").status_code for _ in range(4)]
        assert codes == [401, 401, 429, 429]
    with serving(daemon, requests_per_minute=3) as http:
        with connect(f"ws://127.0.0.1:{http.base_url.port}/ws") as connection:
            for _ in range(3):
                connection.send(json.dumps({"type": "hello"}))
            told = [json.loads(connection.recv(timeout=PATIENCE_SECONDS)) for _ in range(4)]
        assert [one["type"] for one in told] == ["ready", "ready", "ready", "error"]
        assert told[-1]["code"] == "http-rate-limited"


def test_too_much_at_once_is_refused(daemon: RunningDaemon) -> None:
    with serving(daemon, max_concurrent=1) as http:
        long = {"text": "One sentence after the other is spoken here. " * 60}
        with http.stream("POST", "/tts", json=long, headers={"Accept": "audio/pcm"}) as stream:
            parts = stream.iter_raw()
            next(parts)
            with httpx.Client(base_url=http.base_url, timeout=PATIENCE_SECONDS) as other:
                refused = other.post("/chat", json={"text": "What time is it?"})
                assert problem(refused)["code"] == "http-busy"
                assert refused.status_code == 503
                assert int(refused.headers["retry-after"]) >= 1
                assert other.get("/rooms").status_code == 200
        # The client that left has freed its place.
        eventually(lambda: http.post("/chat", json={"text": "What time is it?"}).status_code == 200)


def raw(http: httpx.Client, data: bytes) -> socket.socket:
    """Return a connection on which `data` has been sent."""
    connection = socket.create_connection(("127.0.0.1", http.base_url.port or 0), timeout=PATIENCE_SECONDS)
    connection.sendall(data)
    return connection


def test_a_request_that_does_not_arrive(daemon: RunningDaemon) -> None:
    head = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with serving(daemon, read_timeout_seconds=0.3) as http, raw(http, head) as slow:
        assert http.get("/rooms").status_code == 200
        answer = slow.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 408")
        while part := slow.recv(10_000):
            answer += part
        assert b'"code": "http-timeout"' in answer


def test_a_body_without_a_length_is_bounded_too(daemon: RunningDaemon) -> None:
    with serving(daemon, max_body_bytes=10_000) as http:
        response = http.post("/stt", content=(bytes(1000) for _ in range(20)))
        assert problem(response)["code"] == "http-body-too-large"
        assert problem(http.post("/stt", content=bytes(10_001)))["code"] == "http-body-too-large"


def test_a_client_that_does_not_read_its_sound(daemon: RunningDaemon) -> None:
    body = json.dumps({"text": "Here is a sentence that is spoken. " * 150}).encode()
    head = (
        b"POST /tts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: audio/pcm\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    with serving(daemon, write_timeout_seconds=0.3, max_concurrent=1) as http:
        lazy = socket.socket()
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", http.base_url.port))
        lazy.sendall(head + body)
        eventually(lambda: http.post("/chat", json={"text": "What time is it?"}).status_code != 200)
        eventually(lambda: http.post("/chat", json={"text": "What time is it?"}).status_code == 200)
        lazy.close()
    daemon.settle()


def test_stopping_ends_every_connection(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as stack:
        with serving(daemon) as http:
            other = stack.enter_context(httpx.Client(base_url=http.base_url, timeout=PATIENCE_SECONDS))
            events = stack.enter_context(other.stream("GET", "/events"))
            lines = events.iter_lines()
            next(lines)
            long = {"text": "One sentence after the other is spoken here. " * 60}
            speech = stack.enter_context(other.stream("POST", "/tts", json=long, headers={"Accept": "audio/pcm"}))
            sound = speech.iter_raw()
            next(sound)
            talk = stack.enter_context(connect(f"ws://127.0.0.1:{http.base_url.port}/ws"))
            talk.recv()
        for end in (lambda: list(lines), lambda: list(sound), lambda: list(talk)):
            with suppress(httpx.HTTPError, ConnectionClosed):
                end()
    daemon.settle()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_answers_are_not_held_back(daemon: RunningDaemon) -> None:
    with client(daemon) as http:
        assert http.get("/healthz").status_code == 200
        server = daemon.daemon._http._server
        assert server is not None
        for connection in server.server_state.connections:
            connected = connection.transport.get_extra_info("socket")
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert server.server_state.connections


def test_transcripts_are_not_kept_if_so_wished(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with serving(daemon, keep_transcripts=False) as http:
        http.post("/chat", json={"text": "What is the capital of France?"})
        run = http.get("/runs").json()["runs"][0]
    assert run["outcome"] == "done"
    assert run["heard"] == run["said"] == ""
    assert not [record for record in caplog.records if "France" in record.getMessage() and "httpx" not in record.name]


async def test_a_port_in_use_is_told(daemon: RunningDaemon) -> None:
    with pytest.raises(CannotListen, match=f"127.0.0.1:{daemon.port('http')}"):
        await HttpService(daemon.daemon._http._context).start(daemon.port("http"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http:\n  host: 0.0.0.0", "c.yaml:2: http.host: 0.0.0.0 can be reached from other machines"),
        ("http:\n  port: 10600", "c.yaml:2: http.port: port 10600 is also wyoming.port"),
        ("http:\n  token: ' '", "c.yaml:2: http.token: the token from http.token is empty"),
        ("http:\n  requests_per_minute: 0", "c.yaml:2: http.requests_per_minute: "),
    ],
)
def test_it_is_refused_to_start_open(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, name="c.yaml", check=check)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("home", False)]
)
def test_what_only_this_machine_can_reach(host: str, local: bool) -> None:
    assert HttpSettings(host=host).is_local is local
