"""Every endpoint on real engines, and the form of its errors."""

import base64
import io
import json
import re
import socket
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from satellite.audio import encoding
from satellite.audio.encoding import wav
from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL
from satellite.http import speech_api
from satellite.http.context import perform
from satellite.http.error_codes import status_of
from satellite.monitoring.status import Status
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import added_rooms
from tests.http_daemon import JSON, QUESTION, TIME, client, last_run, problem, refusal, samples, serving
from tests.running_daemon import RunningDaemon
from tests.waiting import eventually

pytestmark = pytest.mark.models

GRAFANA = Path(__file__).parent.parent / "docs" / "grafana.json"
DINNER = {"text": "Dinner is ready."}
LONG = "This is a long sentence. "
SENT_JSON = {"Content-Type": "application/json"}
SENT_PCM = {"Content-Type": "audio/pcm"}


def words(text: str) -> str:
    """Return `text` without case and marks."""
    return re.sub(r"[^\w ]", "", text.lower())


def ask(http: httpx.Client, text: str, **more: str) -> Any:
    return http.post("/chat", json={"text": text, **more}).json()


def spoken(http: httpx.Client, text: str, form: str) -> httpx.Response:
    response = http.post("/tts", json={"text": text}, headers={"Accept": form})
    assert (response.status_code, response.headers["content-type"]) == (200, form)
    return response


def test_chat_answers_and_goes_on(http: httpx.Client) -> None:
    answer = ask(http, QUESTION, conversation_id="t1")
    assert answer["text"]
    assert (answer["conversation_id"], answer["provider"]) == ("t1", "local")
    assert 0 < answer["timings_ms"]["first_token"] <= answer["timings_ms"]["chat"] <= answer["timings_ms"]["total"]
    first = ask(http, "What time is it?")
    assert any(character.isdigit() for character in first["text"])
    again = ask(http, "Repeat that.", conversation_id=first["conversation_id"])
    assert (again["provider"], again["text"]) == (first["provider"], first["text"]) == ("commands", first["text"])
    assert ask(http, "Repeat that.", conversation_id="another")["text"] != first["text"]


def test_chat_streams(http: httpx.Client) -> None:
    response = http.post("/chat", json={"text": QUESTION}, headers={"Accept": "text/event-stream"})
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in response.text.strip().split("\n\n")]
    *deltas, done = [json.loads(block["data"]) for block in blocks]
    assert [block["event"] for block in blocks] == ["delta"] * len(deltas) + ["done"]
    assert len(deltas) > 1
    assert "".join(delta["text"] for delta in deltas).strip() == done["text"]
    assert done["provider"] == "local"


@pytest.mark.parametrize("form", ["audio/wav", "audio/ogg", "audio/mpeg", "audio/pcm"])
def test_speech_is_the_same_in_every_form(http: httpx.Client, form: str) -> None:
    sound = spoken(http, QUESTION, form)
    rate = f"; rate={sound.headers['satellite-sample-rate']}" if form == "audio/pcm" else ""
    heard = http.post("/stt", content=sound.content, headers={"Content-Type": form + rate}).json()
    assert words(heard["text"]) == words(QUESTION)
    assert 1 < heard["audio_seconds"] < 4


def test_a_short_text_is_a_whole_file(http: httpx.Client) -> None:
    for _ in range(2):  # made, and as it is remembered
        sound = spoken(http, "Dinner is ready.", "audio/wav")
        with wave.open(io.BytesIO(sound.content)) as file:
            assert len(file.readframes(file.getnframes())) == 2 * file.getnframes() == len(sound.content) - 44
        assert int(sound.headers["content-length"]) == len(sound.content)
    long = spoken(http, "Dinner is ready. " * 6, "audio/wav")
    assert long.content[40:44] == b"\xff\xff\xff\xff"
    assert http.post("/stt", content=long.content).json()["audio_seconds"] > 5


def test_speech_in_json(http: httpx.Client) -> None:
    body = http.post("/tts", json={**DINNER, "speaker": "0", "language": "en"}, headers=JSON).json()
    with wave.open(io.BytesIO(base64.b64decode(body["audio"]["base64"]))) as file:
        assert file.getframerate() == body["audio"]["rate"]
        assert file.getnframes() / file.getframerate() == pytest.approx(body["audio"]["seconds"], abs=0.01)
    assert body["voice"] == "en_US-joe-medium"


@pytest.mark.parametrize("path", ["/chat", "/tts", "/announce", "/v1/chat/completions", "/v1/audio/speech"])
@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_what_is_not_json_is_refused_as_such(http: httpx.Client, path: str, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    refused = problem(http.post(path, content=b'{"text": "Hi"}', headers=headers))
    assert (refused["status"], refused["code"]) == (415, "http-unsupported-media-type")
    assert (kind or "no Content-Type") in refused["detail"]
    assert "expected application/json" in refused["detail"]
    given = {"Content-Type": "application/merge-patch+json; charset=utf-8"}
    assert problem(http.post(path, content=b"{}", headers=given))["code"] == "http-invalid"


def test_speech_starts_with_the_first_clause(http: httpx.Client) -> None:
    text = "First of all, hello. " + "This sentence is here to be spoken at some length, again and again. " * 5
    with http.stream("POST", "/tts", json={"text": text}, headers={"Accept": "audio/pcm"}) as response:
        sizes = [len(part) for part in response.iter_raw()]
    assert len(sizes) > 5
    assert sizes[0] < sum(sizes) / 5


def test_converse(http: httpx.Client, question: bytes) -> None:
    recording = wav(question, CANONICAL)
    sound = http.post("/converse?conversation_id=voice", files={"file": recording}, headers={"Accept": "audio/wav"})
    assert words(unquote(sound.headers["satellite-heard"])) == words(QUESTION)
    assert sound.headers["satellite-conversation-id"] == "voice"
    assert http.post("/stt", content=sound.content).json()["text"]
    answer = http.post("/converse", content=recording, headers=JSON).json()
    assert words(answer["heard"]) == words(QUESTION)
    assert answer["audio"]["seconds"] > 0.3
    run = last_run(http)
    assert (run["outcome"], run["heard"], run["said"]) == ("done", answer["heard"], answer["text"])
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
    assert http.get("/rooms").json() == {"rooms": []} == {"rooms": state["rooms"]}
    by_stage = {stage["stage"]: stage for stage in state["stages"]}
    assert by_stage["stt"]["device"].startswith("c")
    assert (by_stage["stt"]["model"], by_stage["tts"]["model"]) == ("tiny.en", "en_US-joe-medium")
    assert {stage["tone"] for stage in state["stages"]} == {"good"}
    models = http.get("/models").json()
    assert {"name": "tiny.en", "languages": ["en"], "installed": True, "in_use": True, "speakers": []} in models["stt"]
    assert any(one["in_use"] and one["installed"] for one in models["tts"])
    assert any(not one["installed"] for one in models["tts"])
    assert any(one["name"] == "okay_nabu" and one["in_use"] for one in models["wake"])
    assert [one["name"] for one in models["chat"] if one["in_use"]] == ["smollm2-135m-instruct"]


def test_an_announcement_without_rooms_is_heard_everywhere(daemon: RunningDaemon, http: httpx.Client) -> None:
    kitchen, study = (ScriptedSatellite(name=name, mode="wake") for name in ("kitchen", "study"))
    with added_rooms(daemon, kitchen, study):
        answer = http.post("/announce", json=DINNER)
        assert (answer.status_code, answer.json()) == (200, {"heard": ["kitchen", "study"], "failed": {}})
        for nowhere in ([], None, "kitchen", [""]):
            assert refusal(http.post("/announce", json={**DINNER, "rooms": nowhere})) == (422, "http-invalid")
        for satellite in (kitchen, study):
            [utterance] = satellite.speaker.utterances
            assert len(utterance.pcm) > BYTES_PER_SECOND


def test_rooms_that_fail_to_announce_are_named(daemon: RunningDaemon, http: httpx.Client) -> None:
    kitchen = ScriptedSatellite(name="kitchen", mode="wake")
    with added_rooms(daemon, kitchen, off=("garage",)):
        answer = http.post("/announce", json=DINNER)
        assert answer.status_code == 200
        assert (answer.json()["heard"], list(answer.json()["failed"])) == (["kitchen"], ["garage"])
        refused = problem(http.post("/announce", json={**DINNER, "rooms": ["garage"]}))
        assert (refused["status"], refused["code"], list(refused["failed"])) == (502, "announce-failed", ["garage"])
        assert refused["detail"].count("garage: ") == 1


def test_health_and_all_that_the_dashboard_for_grafana_draws(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"alive": True}
    assert http.get("/readyz").json()["ready"] is True
    ask(http, QUESTION)
    text = http.get("/metrics").text
    found = samples(text)
    assert found["ready",] == 1
    assert found["runs_total", "done"] > 0
    assert found["queue_fill", "stt"] == 0
    assert {("stage_seconds_bucket", "0.05", "chat"), ("dropped_audio_seconds_total",)} <= found.keys()
    drawn = {name.removesuffix("_bucket") for name in re.findall(r"satellite_[a-z_]+", GRAFANA.read_text())}
    assert len(drawn) > 10
    assert not {name for name in drawn if f"# TYPE {name} " not in text}


def test_a_client_that_leaves_ends_the_work(http: httpx.Client, daemon: RunningDaemon) -> None:
    body = json.dumps({"text": LONG * 400}).encode()
    head = f"POST /tts HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", daemon.port("http"))) as impatient:
        impatient.sendall(f"{head}Accept: application/json\r\n\r\n".encode() + body)
        eventually(lambda: last_run(http).get("outcome") == "running")
    daemon.settle()
    assert last_run(http)["outcome"] == "cancelled"


def test_an_encoder_that_fails_ends_the_run(
    http: httpx.Client, daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def kept(*parts: Any) -> Any:
        made.append(perform(*parts))  # referenced, so that nothing but the response closes it
        return made[-1]

    monkeypatch.setattr(speech_api, "perform", kept)
    monkeypatch.setattr(encoding, "Encoder", None)
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/tts", json={"text": LONG * 10}, headers={"Accept": "audio/mpeg"})
    daemon.settle()
    assert made[0].ag_frame is None


def test_a_daemon_that_is_not_ready_says_why(daemon: RunningDaemon) -> None:
    startup = SimpleNamespace(finished=False, cold={})
    chat = daemon.daemon._assembly.chat
    status = Status(
        daemon.daemon._stages,
        startup,
        chat=lambda: chat.status,
        rooms=list,
        closed_ports=dict,
        certificate=lambda: None,
    )
    with serving(daemon, status) as starting:
        assert refusal(starting.get("/readyz")) == (503, "not-ready")
        assert problem(starting.get("/readyz"))["detail"] == "the stages are being warmed up"
        startup.finished = True
        startup.cold = {"tts": "the voice does not speak"}
        assert problem(starting.get("/readyz"))["detail"] == "tts: the voice does not speak"
        assert starting.get("/healthz").status_code == 200


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
"""No recording, and its files must not be opened."""


def test_every_kind_of_error_has_its_status() -> None:
    codes = {
        413: ("chat-too-long",),
        422: ("tts-unknown-voice",),
        500: ("stt-failed", "internal-error"),
        502: ("chat-refused", "chat-failed", "chat-empty"),
        503: ("chat-unreachable", "chat-rate-limited", "stt-busy", "tts-not-ready"),
        504: ("chat-timeout",),
    }
    assert {
        status: tuple(code for code in known if status_of(code) == status) for status, known in codes.items()
    } == codes


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "code"),
    [
        ("GET", "/nowhere", {}, 404, "http-not-found"),
        ("GET", "/chat", {}, 405, "http-method-not-allowed"),
        ("POST", "/chat", {"json": {}}, 422, "http-invalid"),
        ("POST", "/chat", {"json": {"text": " "}}, 422, "http-invalid"),
        ("POST", "/chat", {"json": {"text": "x", "more": 1}}, 422, "http-invalid"),
        ("POST", "/chat", {"content": b"{", "headers": SENT_JSON}, 422, "http-invalid"),
        ("POST", "/chat", {"content": b'{"text": "\\ud800"}', "headers": SENT_JSON}, 422, "http-invalid"),
        ("POST", "/chat", {"json": {"text": "x" * 20_001}}, 413, "chat-too-long"),
        ("POST", "/chat", {"json": {"text": "x"}, "headers": {"Accept": "image/png"}}, 406, "http-not-acceptable"),
        ("POST", "/stt", {}, 422, "http-invalid"),
        ("POST", "/stt", {"content": b"no sound"}, 415, "audio-unreadable"),
        ("POST", "/stt", {"content": PLAYLIST}, 415, "audio-unreadable"),
        ("POST", "/stt", {"files": {"other": b"x"}}, 422, "http-invalid"),
        ("POST", "/stt?language=fr", {"content": wav(bytes(64_000), CANONICAL)}, 422, "stt-unsupported-language"),
        ("POST", "/stt", {"content": bytes(2_000_000), "headers": SENT_PCM}, 413, "audio-too-long"),
        ("POST", "/stt", {"content": wav(bytes(2_000_000), CANONICAL)}, 413, "audio-too-long"),
        ("POST", "/stt", {"content": b"1", "headers": {"Content-Type": "audio/pcm; rate=1"}}, 400, "protocol-error"),
        ("POST", "/stt", {"content": bytes(20_000_001)}, 413, "http-body-too-large"),
        ("POST", "/tts", {"json": {"text": "..."}}, 422, "tts-empty"),
        ("POST", "/tts", {"json": {"text": "x" * 20_001}}, 413, "tts-too-long"),
        ("POST", "/tts", {"json": {"text": "x", "voice": "nobody"}}, 422, "tts-unknown-voice"),
        ("POST", "/tts", {"json": {"text": "x", "speaker": "x"}}, 422, "tts-unknown-speaker"),
        ("POST", "/tts", {"json": {"text": "x", "speaker": "1"}}, 422, "tts-unknown-speaker"),
        ("POST", "/tts", {"json": {"text": "x", "language": "xx"}}, 422, "tts-unsupported-language"),
        ("POST", "/tts", {"json": {"text": "x"}, "headers": {"Accept": "audio/midi"}}, 406, "http-not-acceptable"),
        ("POST", "/converse", {"content": wav(bytes(320_000), CANONICAL)}, 422, "stt-no-speech"),
        ("POST", "/announce", {"json": {"text": "x", "rooms": ["cellar"]}}, 422, "unknown-room"),
        ("POST", "/announce", {"json": {"text": "x" * 20_001}}, 413, "tts-too-long"),
        ("GET", "/runs?limit=none", {}, 422, "http-invalid"),
        ("POST", "/v1/chat/completions", {"json": {"messages": []}}, 422, "http-invalid"),
        ("POST", "/v1/audio/speech", {"json": {"input": "x" * 20_001}}, 413, "tts-too-long"),
    ],
)  # fmt: skip
def test_errors_have_one_shape(
    http: httpx.Client, method: str, path: str, more: dict[str, Any], status: int, code: str
) -> None:
    assert refusal(http.request(method, path, **more)) == (status, code)


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


def test_what_happens_is_reported_as_it_happens(http: httpx.Client, daemon: RunningDaemon) -> None:
    with client(daemon.port("http")) as other, other.stream("GET", "/events") as stream:
        lines = (line for line in stream.iter_lines() if line.startswith(("event: ", "data: ")))
        assert next(lines) == "event: status"
        assert '"version"' in next(lines)
        assert http.post("/chat", json=TIME).status_code == 200
        outcomes: list[str] = []
        while "done" not in outcomes:
            kind, data = next(lines), json.loads(next(lines).removeprefix("data: "))
            if kind == "event: run":
                outcomes.append(data["outcome"])
    assert outcomes[0] == "running"
