"""Every endpoint on real engines, and the form of its errors."""

import base64
import io
import json
import re
import socket
import wave
from collections.abc import AsyncGenerator
from pathlib import Path
from types import AsyncGeneratorType, SimpleNamespace
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from satellite.audio.pcm import CANONICAL
from satellite.http import encoding, speech_api
from satellite.http.context import perform
from satellite.http.encoding import wav
from satellite.http.error_codes import status_of
from satellite.monitoring.status import Status
from tests.http_daemon import client, problem, serving
from tests.running_daemon import RunningDaemon
from tests.waiting import eventually

pytestmark = pytest.mark.models

GRAFANA = Path(__file__).parent.parent / "docs" / "grafana.json"
QUESTION = "What is the capital of France?"
JSON = {"Content-Type": "application/json"}
RAW = {"Content-Type": "audio/pcm"}
FORMS = ["audio/wav", "audio/ogg", "audio/mpeg", "audio/pcm"]


def words(text: str) -> str:
    """Return `text` without case and marks."""
    return "".join(character for character in text.lower() if character.isalnum() or character == " ")


def events(text: str) -> list[tuple[str, Any]]:
    """Return the server-sent events of a stream."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((fields.get("event", ""), json.loads(fields["data"])))
    return found


def test_chat_answers(http: httpx.Client) -> None:
    answer = http.post("/chat", json={"text": QUESTION, "conversation_id": "t1"}).json()
    assert answer["text"]
    assert answer["conversation_id"] == "t1"
    assert answer["provider"] == "local"
    assert 0 < answer["timings_ms"]["first_token"] <= answer["timings_ms"]["chat"] <= answer["timings_ms"]["total"]


def test_chat_streams(http: httpx.Client) -> None:
    response = http.post("/chat", json={"text": QUESTION}, headers={"Accept": "text/event-stream"})
    assert response.headers["content-type"].startswith("text/event-stream")
    *deltas, (last, done) = events(response.text)
    assert last == "done"
    assert {kind for kind, _ in deltas} == {"delta"}
    assert len(deltas) > 1
    assert "".join(data["text"] for _, data in deltas).strip() == done["text"]
    assert done["provider"] == "local"


def test_a_conversation_goes_on(http: httpx.Client) -> None:
    first = http.post("/chat", json={"text": "What time is it?"}).json()
    assert any(character.isdigit() for character in first["text"])
    again = http.post("/chat", json={"text": "Repeat that.", "conversation_id": first["conversation_id"]}).json()
    assert again["provider"] == first["provider"] == "commands"
    assert again["text"] == first["text"]
    elsewhere = http.post("/chat", json={"text": "Repeat that.", "conversation_id": "another"}).json()
    assert elsewhere["text"] != first["text"]


@pytest.mark.parametrize("form", FORMS)
def test_speech_is_the_same_in_every_form(http: httpx.Client, form: str) -> None:
    spoken = http.post("/tts", json={"text": QUESTION}, headers={"Accept": form})
    assert (spoken.status_code, spoken.headers["content-type"]) == (200, form)
    rate = f"; rate={spoken.headers['satellite-sample-rate']}" if form == "audio/pcm" else ""
    heard = http.post("/stt", content=spoken.content, headers={"Content-Type": form + rate}).json()
    assert words(heard["text"]) == words(QUESTION)
    assert 1 < heard["audio_seconds"] < 4


def test_a_short_text_is_a_whole_file(http: httpx.Client) -> None:
    for _ in range(2):  # made, and as it is remembered
        spoken = http.post("/tts", json={"text": "Dinner is ready."}, headers={"Accept": "audio/wav"})
        with wave.open(io.BytesIO(spoken.content)) as file:
            assert len(file.readframes(file.getnframes())) == 2 * file.getnframes() == len(spoken.content) - 44
        assert int(spoken.headers["content-length"]) == len(spoken.content)
    long = http.post("/tts", json={"text": "Dinner is ready. " * 10}, headers={"Accept": "audio/wav"})
    assert long.content[40:44] == b"\xff\xff\xff\xff"
    assert http.post("/stt", content=long.content).json()["audio_seconds"] > 5


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"speaker": "x"}, "tts-unknown-speaker"),
        ({"speaker": "1"}, "tts-unknown-speaker"),
        ({"language": "xx"}, "tts-unsupported-language"),
        ({"voice": "x"}, "tts-unknown-voice"),
    ],
)
def test_a_voice_that_there_is_not(http: httpx.Client, wish: dict[str, str], code: str) -> None:
    refused = problem(http.post("/tts", json={"text": "Dinner is ready.", **wish}))
    assert (refused["status"], refused["code"]) == (422, code)
    given = {"text": "Dinner is ready.", "speaker": "0", "language": "en"}
    assert http.post("/tts", json=given).status_code == 200


@pytest.mark.parametrize("path", ["/chat", "/tts", "/announce", "/v1/chat/completions", "/v1/audio/speech"])
@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_what_is_not_json_is_told_so(http: httpx.Client, path: str, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    refused = problem(http.post(path, content=b'{"text": "Hi"}', headers=headers))
    assert (refused["status"], refused["code"]) == (415, "http-unsupported-media-type")
    assert (kind or "no Content-Type") in refused["detail"]
    assert "expected application/json" in refused["detail"]
    given = {"Content-Type": "application/merge-patch+json; charset=utf-8"}
    assert problem(http.post(path, content=b"{}", headers=given))["code"] == "http-invalid"


def test_speech_in_json(http: httpx.Client) -> None:
    body = http.post("/tts", json={"text": QUESTION}, headers={"Accept": "application/json"}).json()
    with wave.open(io.BytesIO(base64.b64decode(body["audio"]["base64"]))) as file:
        assert file.getframerate() == body["audio"]["rate"]
        assert file.getnframes() / file.getframerate() == pytest.approx(body["audio"]["seconds"], abs=0.01)
    assert body["voice"] == "en_US-joe-medium"


def test_speech_starts_with_the_first_clause(http: httpx.Client) -> None:
    text = "First of all, hello. " + "This sentence is here to be spoken at some length, again and again. " * 8
    with http.stream("POST", "/tts", json={"text": text}, headers={"Accept": "audio/pcm"}) as response:
        sizes = [len(part) for part in response.iter_raw()]
    assert len(sizes) > 5
    assert sizes[0] < sum(sizes) / 5


def test_converse(http: httpx.Client, question: bytes) -> None:
    recording = wav(question, CANONICAL)
    answer = http.post("/converse", content=recording, headers={"Accept": "application/json"}).json()
    assert words(answer["heard"]) == words(QUESTION)
    assert answer["text"]
    assert answer["audio"]["seconds"] > 0.3
    sound = http.post("/converse?conversation_id=voice", files={"file": recording}, headers={"Accept": "audio/wav"})
    assert words(unquote(sound.headers["satellite-heard"])) == words(QUESTION)
    assert sound.headers["satellite-conversation-id"] == "voice"
    heard = http.post("/stt", content=sound.content).json()
    assert heard["text"]


def test_runs_are_waterfalls(http: httpx.Client, question: bytes) -> None:
    http.post("/converse", content=wav(question, CANONICAL), headers={"Accept": "application/json"})
    run = http.get("/runs", params={"limit": 1}).json()["runs"][0]
    assert run["outcome"] == "done"
    assert words(run["heard"]) == words(QUESTION)
    assert run["said"]
    assert run["provider"] == "local"
    assert [stage["name"] for stage in run["stages"]] == ["listen", "stt", "chat", "tts"]
    for stage in run["stages"]:
        assert 0 <= stage["start_ms"] <= stage["end_ms"] <= run["total_ms"]
    marks = run["marks"]
    assert marks["speech_end_ms"] <= marks["first_token_ms"] <= marks["first_audio_ms"] <= run["total_ms"]


def test_the_house(http: httpx.Client) -> None:
    state = http.get("/status").json()
    assert state["ready"]
    assert {stage["stage"]: stage.get("device") for stage in state["stages"]}["stt"].startswith("c")
    assert http.get("/rooms").json() == {"rooms": []} == {"rooms": state["rooms"]}
    by_stage = {stage["stage"]: stage for stage in state["stages"]}
    assert (by_stage["stt"]["model"], by_stage["tts"]["model"]) == ("tiny.en", "en_US-joe-medium")
    assert {stage["tone"] for stage in state["stages"]} == {"good"}
    models = http.get("/models").json()
    assert {"name": "tiny.en", "languages": ["en"], "installed": True, "in_use": True, "speakers": []} in models["stt"]
    assert any(one["in_use"] and one["installed"] for one in models["tts"])
    assert any(not one["installed"] for one in models["tts"])
    assert any(one["name"] == "okay_nabu" and one["in_use"] for one in models["wake"])
    assert [one["name"] for one in models["chat"] if one["in_use"]] == ["smollm2-135m-instruct"]


def test_health(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"alive": True}
    assert http.get("/readyz").json()["ready"] is True
    http.post("/chat", json={"text": QUESTION})
    text = http.get("/metrics").text
    assert "satellite_ready 1.0" in text
    assert 'satellite_runs_total{outcome="done"}' in text
    assert 'satellite_stage_seconds_bucket{le="0.05",stage="chat"}' in text
    assert 'satellite_queue_fill{queue="stt"} 0.0' in text
    assert "satellite_dropped_audio_seconds_total" in text


def test_a_client_that_leaves_ends_the_work(http: httpx.Client, daemon: RunningDaemon) -> None:
    def outcome() -> str:
        runs: list[dict[str, str]] = http.get("/runs", params={"limit": 1}).json()["runs"]
        return runs[0]["outcome"] if runs else ""

    body = json.dumps({"text": "This is a long sentence. " * 400}).encode()
    head = f"POST /tts HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", daemon.port("http"))) as impatient:
        impatient.sendall(f"{head}Accept: application/json\r\n\r\n".encode() + body)
        eventually(lambda: outcome() == "running")
    daemon.settle()
    assert outcome() == "cancelled"


def test_an_encoder_that_fails_ends_the_run(
    http: httpx.Client, daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[AsyncGeneratorType[Any, Any]] = []

    def kept(*parts: Any) -> AsyncGenerator[Any, None]:
        steps = perform(*parts)
        assert isinstance(steps, AsyncGeneratorType)
        made.append(steps)
        return steps

    def broken(*_: Any) -> None:
        raise ValueError("no such codec")

    monkeypatch.setattr(speech_api, "perform", kept)
    monkeypatch.setattr(encoding, "_Encoder", broken)
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/tts", json={"text": "This is a long sentence. " * 10}, headers={"Accept": "audio/mpeg"})
    daemon.settle()
    assert made[0].ag_frame is None


def test_a_daemon_that_is_not_ready_says_why(daemon: RunningDaemon) -> None:
    startup = SimpleNamespace(finished=False, cold={})
    chat = daemon.daemon._assembly.chat
    status = Status(daemon.daemon._stages, startup, chat=lambda: chat.status, rooms=list, closed_ports=dict)
    with serving(daemon, status) as starting:
        body = problem(starting.get("/readyz"))
        assert (body["status"], body["code"]) == (503, "not-ready")
        assert body["detail"] == "the stages are being warmed up"
        startup.finished = True
        startup.cold = {"tts": "the voice does not speak"}
        assert problem(starting.get("/readyz"))["detail"] == "tts: the voice does not speak"
        assert starting.get("/healthz").status_code == 200


def test_every_kind_of_error_has_its_status() -> None:
    codes = {
        413: ("chat-too-long",),
        422: ("tts-unknown-voice",),
        500: ("stt-failed", "internal-error"),
        502: ("chat-refused", "chat-failed", "chat-empty"),
        503: ("chat-unreachable", "chat-rate-limited", "stt-busy", "tts-not-ready"),
        504: ("chat-timeout",),
    }
    assert {code: status_of(code) for status in codes for code in codes[status]} == {
        code: status for status in codes for code in codes[status]
    }


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "code"),
    [
        ("GET", "/nowhere", {}, 404, "http-not-found"),
        ("GET", "/chat", {}, 405, "http-method-not-allowed"),
        ("POST", "/chat", {"json": {}}, 422, "http-invalid"),
        ("POST", "/chat", {"json": {"text": " "}}, 422, "http-invalid"),
        ("POST", "/chat", {"json": {"text": "x", "more": 1}}, 422, "http-invalid"),
        ("POST", "/chat", {"content": b"{", "headers": JSON}, 422, "http-invalid"),
        ("POST", "/chat", {"content": b'{"text": "\\ud800"}', "headers": JSON}, 422, "http-invalid"),
        ("POST", "/chat", {"json": {"text": "x" * 20_001}}, 413, "chat-too-long"),
        ("POST", "/chat", {"json": {"text": "x"}, "headers": {"Accept": "image/png"}}, 406, "http-not-acceptable"),
        ("POST", "/stt", {}, 422, "http-invalid"),
        ("POST", "/stt", {"content": b"no sound"}, 415, "audio-unreadable"),
        ("POST", "/stt", {"files": {"other": b"x"}}, 422, "http-invalid"),
        ("POST", "/stt?language=fr", {"content": wav(bytes(64_000), CANONICAL)}, 422, "stt-unsupported-language"),
        ("POST", "/stt", {"content": bytes(2_000_000), "headers": RAW}, 413, "audio-too-long"),
        ("POST", "/stt", {"content": wav(bytes(2_000_000), CANONICAL)}, 413, "audio-too-long"),
        ("POST", "/stt", {"content": b"1", "headers": {"Content-Type": "audio/pcm; rate=1"}}, 400, "protocol-error"),
        ("POST", "/stt", {"content": bytes(20_000_001)}, 413, "http-body-too-large"),
        ("POST", "/tts", {"json": {"text": "..."}}, 422, "tts-empty"),
        ("POST", "/tts", {"json": {"text": "x", "voice": "nobody"}}, 422, "tts-unknown-voice"),
        ("POST", "/tts", {"json": {"text": "x"}, "headers": {"Accept": "audio/midi"}}, 406, "http-not-acceptable"),
        ("POST", "/converse", {"content": wav(bytes(320_000), CANONICAL)}, 422, "stt-no-speech"),
        ("POST", "/announce", {"json": {"text": "x", "rooms": ["cellar"]}}, 422, "unknown-room"),
        ("GET", "/runs?limit=none", {}, 422, "http-invalid"),
        ("POST", "/v1/chat/completions", {"json": {"messages": []}}, 422, "http-invalid"),
    ],
)  # fmt: skip
def test_errors_have_one_shape(
    http: httpx.Client, method: str, path: str, more: dict[str, Any], status: int, code: str
) -> None:
    body = problem(http.request(method, path, **more))
    assert (body["status"], body["code"]) == (status, code)


def test_a_playlist_opens_no_files(http: httpx.Client) -> None:
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
    assert problem(http.post("/stt", content=playlist))["code"] == "audio-unreadable"


def test_answers_are_safe_in_a_browser(http: httpx.Client) -> None:
    for path in ("/", "/status", "/nowhere"):
        headers = http.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'; connect-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_the_page_is_not_sent_twice(http: httpx.Client) -> None:
    first = http.get("/static/base.css")
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["content-encoding"] == "gzip"
    again = http.get("/static/base.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "content-encoding" not in http.get("/static/base.css", headers={"Accept-Encoding": "identity"}).headers
    assert http.get("/status").headers["cache-control"] == "no-store"


def test_what_happens_is_told_as_it_happens(http: httpx.Client, daemon: RunningDaemon) -> None:
    kinds: list[str] = []
    outcomes: list[str] = []
    with client(daemon) as other, other.stream("GET", "/events") as stream:
        kind = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
                kinds.append(kind)
            elif line.startswith("data: "):
                data = json.loads(line.removeprefix("data: "))
                if kind == "status" and len(kinds) == 1:
                    assert data["version"]
                    assert http.post("/chat", json={"text": "What time is it?"}).status_code == 200
                elif kind == "run":
                    outcomes.append(data["outcome"])
                    if data["outcome"] == "done":
                        break
    assert kinds[0] == "status"
    assert outcomes[0] == "running"


def test_the_dashboard_for_grafana_asks_for_what_there_is(http: httpx.Client) -> None:
    text = http.get("/metrics").text
    drawn = {name.removesuffix("_bucket") for name in re.findall(r"satellite_[a-z_]+", GRAFANA.read_text())}
    assert len(drawn) > 10
    assert not {name for name in drawn if f"# TYPE {name} " not in text}
