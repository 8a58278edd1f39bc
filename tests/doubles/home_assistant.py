"""A server with Home Assistant's REST API for sentences, its shapes and its ways of failing, over real sockets."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import httpx

from tests.doubles.http import Exchange, HttpServer, Refusal

Agent = Callable[[str, str, str], Awaitable[dict[str, Any]]]
"""Answers a text in a conversation and a language with the `response` of the API."""

VERSION = "2026.11.0"
BUILT_IN = "conversation.home_assistant"
_ANSWERS = {
    "what is the temperature in the living room": ("21.5 °C", "query_answer"),
    "good night": ("", "action_done"),
    "add milk to my shopping list": ("Unknown intent HassShoppingListAddItem", "unknown"),
    "run the broken script": ("An unexpected error occurred", "unknown"),
}


class Fault(Enum):
    CRASH = auto()  # 500.
    BAD_GATEWAY = auto()  # 502, of a proxy in front of a server that is starting.
    STOPPING = auto()  # 503 without a word.
    NOT_LOADED = auto()  # 404: the server is there, the API not yet.
    HANG = auto()  # Nothing at all, for ever.
    SLOW = auto()  # Done and answered `slow_seconds` late; not done at all for who has hung up by then.
    CUT = auto()  # Done, but the connection breaks before the answer.
    GARBAGE = auto()  # 200 with something that is no JSON.
    STRANGE = auto()  # 200 with the JSON of something else.
    FLOOD = auto()  # 200 without an end.
    LOGIN_PAGE = auto()  # 200 with a page, of a proxy that wants a login.
    REDIRECT = auto()  # 302 to such a page.
    ENDLESS_REDIRECT = auto()  # 302 to an address that is longer than httpx takes.


_REPLIES: dict[Fault | None, tuple[Any, ...]] = {
    Fault.CRASH: (500, "500 Internal Server Error\n\nServer got itself in trouble"),
    Fault.BAD_GATEWAY: (502, "502 Bad Gateway"),
    Fault.STOPPING: (503, ""),
    Fault.NOT_LOADED: (404, "404: Not Found"),
    Fault.GARBAGE: (200, b"\x00\xff{"),
    Fault.STRANGE: (200, {"response": {"response_type": "poem"}, "components": "all"}),
    Fault.LOGIN_PAGE: (200, b"<!DOCTYPE html><html><title>Log in</title><form method=post></form></html>"),
    Fault.REDIRECT: (302, b"302: Found", {"Location": "/login"}),
    Fault.ENDLESS_REDIRECT: (302, b"302: Found", {"Location": f"/{'a' * 65_530}"}),
}


@dataclass
class Entity:
    id: str
    name: str
    works: bool = True
    area: str = ""  # where it was put itself, whatever its device


@dataclass
class Device:
    id: str
    name: str
    area: str = ""
    has_timers: bool = False  # whether it is a satellite


class HomeAssistantServer(HttpServer):
    """A house with a few devices behind a token; every setting may be changed at any time."""

    def __init__(self, *, token: str = "a-token") -> None:
        super().__init__()
        self.token = token
        self.repeats_token = False  # whether a failure quotes the token that was given
        self.state = "RUNNING"  # or NOT_RUNNING, STARTING, STOPPING
        self.components = ["api", "conversation", "http", "light"]  # what is not loaded answers 404
        # Refused requests after which nothing is answered any more, ever; -1 is never, the default there too.
        self.login_attempts_threshold = -1
        self.refused = 0
        self.entities = [
            Entity("light.kitchen", "kitchen light", area="Kitchen"),
            Entity("light.bedroom", "bedroom light", area="Bedroom"),
            Entity("fan.bathroom", "bathroom fan", works=False),
        ]
        self.devices = [Device("d-kitchen", "Voice PE", "Kitchen", has_timers=True), Device("d-attic", "Old lamp")]
        self.knows_places = True  # whether a sentence may say where it was spoken; older releases refuse the keys
        self.is_administrators = True  # whether the token is an administrator's; others may render no template
        self.timers: list[tuple[str, str]] = []  # device and duration of the timers that were set
        self.uncompiled: set[str] = set()  # the first sentence in one of these languages is `slow_seconds` late
        self.agents: dict[str, Agent] = {BUILT_IN: self._sentence}
        # Whether its agent understands "and the bedroom light?", as those with a language model do.
        self.follows_up = False
        # What it calls the conversations of the next sentences; without one, as they were called in the request.
        self.conversation_names: list[str | None] = []
        self.faults: list[Fault | None] = []  # one for each of the next sentences
        self.fault: Fault | None = None  # what is wrong with every request
        self.slow_seconds = 0.5
        self.executed: Counter[str] = Counter()  # how often something was done, such as `light.kitchen on`
        self.sentences = 0  # sentences that an agent was asked
        self.calls: list[tuple[str, dict[str, Any]]] = []  # actions of media players, with their data
        self.fetched: dict[str, bytearray] = {}  # what media players have fetched, by entity
        self.fetches = True  # whether they do
        self._fetching: set[asyncio.Task[None]] = set()
        self._last: dict[str, str] = {}  # what was done last, by conversation

    def forget(self) -> None:
        self._last.clear()

    async def answer(self, exchange: Exchange) -> None:
        try:
            await self._served(exchange)
        except Refusal as refusal:
            given = exchange.headers.get("authorization", "") if self.repeats_token else ""
            text = f"{refusal.message}{given}"
            await exchange.reply(refusal.status, text.encode() if not refusal.code else {"message": text})

    async def _served(self, exchange: Exchange) -> None:
        is_sentence = exchange.path == "/api/conversation/process"
        fault = self.fault or (self.faults.pop(0) if is_sentence and self.faults else None)
        if fault not in (None, Fault.SLOW, Fault.CUT):
            await self._break(exchange, fault)
            return
        if self.refused >= self.login_attempts_threshold >= 0:
            raise Refusal(403, "403: Forbidden")
        if is_sentence and "conversation" not in self.components:
            raise Refusal(404, "404: Not Found")
        if exchange.headers.get("authorization", "") != f"Bearer {self.token}":
            self.refused += 1
            raise Refusal(401, "401: Unauthorized")
        match exchange.method, exchange.path:
            case "GET", "/api/config":
                config = {"components": self.components, "language": "en", "state": self.state, "version": VERSION}
                await exchange.reply(200, config)
            case "POST", "/api/template":
                await self._template(exchange)
            case "POST", "/api/conversation/process":
                await self._process(exchange, fault)
            case "POST", path if path.startswith("/api/services/media_player/"):
                self._operate_player(path.rpartition("/")[2], exchange.body)
                await exchange.reply(200, [])
            case _:
                raise Refusal(404, "404: Not Found")

    def _operate_player(self, action: str, data: dict[str, Any]) -> None:
        self.calls.append((action, data))
        if action == "play_media" and self.fetches:
            task = asyncio.create_task(self._fetch(data["entity_id"], data["media_content_id"]))
            self._fetching.add(task)
            task.add_done_callback(self._fetching.discard)

    async def _fetch(self, entity: str, url: str) -> None:
        into = self.fetched[entity] = bytearray()
        with suppress(httpx.HTTPError):  # its server may hang up when the sound is stopped
            async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", url) as response:
                async for data in response.aiter_raw():
                    into += data

    async def _process(self, exchange: Exchange, fault: Fault | None) -> None:
        data = exchange.body
        agent = self._agent_of(data)
        conversation, language = data["conversation_id"], data.get("language", "en")
        if fault is Fault.SLOW or language in self.uncompiled:
            await asyncio.sleep(self.slow_seconds)
        self.uncompiled.discard(language)
        self._last.setdefault(conversation, "")
        self.sentences += 1
        response = self._in_its_place(data) if agent == self._sentence else None
        response = response or await agent(data["text"], conversation, language)
        if fault is Fault.CUT:
            exchange.writer.transport.abort()
            return
        name = self.conversation_names.pop(0) if self.conversation_names else conversation
        document = {"response": response, "conversation_id": name, "continue_conversation": False}
        await exchange.reply(200, document)

    def _agent_of(self, data: dict[str, Any]) -> Agent:
        """Return who answers; complain as voluptuous does."""
        wrong = "Message format incorrect: "
        places = ("device_id", "satellite_id") if self.knows_places else ()
        for key, value in data.items():
            if key not in ("text", "conversation_id", "language", "agent_id", *places):
                raise Refusal(400, f"{wrong}extra keys not allowed @ data['{key}']", "invalid")
            if not isinstance(value, str):
                raise Refusal(400, f"{wrong}expected str for dictionary value @ data['{key}']", "invalid")
        agent = self.agents.get(data.get("agent_id", BUILT_IN))
        if agent is None:
            raise Refusal(400, f"{wrong}invalid agent ID for dictionary value @ data['agent_id']", "invalid")
        return agent

    def _in_its_place(self, data: dict[str, Any]) -> dict[str, Any] | None:
        """Answer what depends on where it was said; None for anything else."""
        said, language = _plain(data["text"]), data.get("language", "en")
        entity = next((one for one in self.entities if one.id == data.get("satellite_id")), None)
        device = next((one for one in self.devices if one.id == data.get("device_id")), None)
        area = (entity.area if entity else "") or (device.area if device else "")
        if match := re.fullmatch(r"turn (on|off) the lights", said):
            if not area:
                return _error("Sorry, I couldn't understand that", language, "no_intent_match")
            for light in self.entities:
                if light.id.startswith("light.") and light.area == area:
                    self.executed[f"{light.id} {match[1]}"] += 1
            return _response(f"Turned {match[1]} the lights", language, "action_done")
        if match := re.fullmatch(r"set a timer for (.+)", said):
            if device is None or not device.has_timers:
                return _error("Sorry, timers are not supported on this device", language, "failed_to_handle")
            self.timers.append((device.id, match[1]))
            return _response("Timer set", language, "action_done")
        return None

    async def _template(self, exchange: Exchange) -> None:
        if not self.is_administrators:
            self.refused += 1
            raise Refusal(401, "401: Unauthorized")
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment()
        environment.filters["to_json"] = json.dumps
        environment.globals |= {
            "area_devices": lambda area: [one.id for one in self.devices if one.area == area],
            "area_entities": lambda area: [one.id for one in self.entities if one.area == area],
            "device_id": lambda name: next((one.id for one in self.devices if one.name == name), None),
        }
        rendered = environment.from_string(exchange.body["template"]).render(exchange.body["variables"])
        await exchange.reply(200, rendered.strip().encode())

    async def _sentence(self, text: str, conversation: str, language: str) -> dict[str, Any]:
        said = _plain(text)
        if match := re.fullmatch(r"turn (on|off) (?:the )?(.+)", said):
            self._last[conversation] = match[1]
            return self._turned(match[1], match[2], language)
        if self.follows_up and self._last[conversation] and (match := re.fullmatch(r"and (?:the )?(.+)", said)):
            return self._turned(self._last[conversation], match[1], language)
        if said in _ANSWERS:
            speech, kind = _ANSWERS[said]
            return _error(speech, language, kind) if kind == "unknown" else _response(speech, language, kind)
        if match := re.fullmatch(r"what is (?:the )?(.+)", said):
            return _error(f"Sorry, I am not aware of any device called {match[1]}", language, "no_valid_targets")
        return _error("Sorry, I couldn't understand that", language, "no_intent_match")

    def _turned(self, state: str, name: str, language: str) -> dict[str, Any]:
        entity = next((entity for entity in self.entities if entity.name == name), None)
        if entity is None:
            return _error(f"Sorry, I am not aware of any device called {name}", language, "no_valid_targets")
        if not entity.works:
            return _error(f"The {entity.name} did not respond", language, "failed_to_handle")
        self.executed[f"{entity.id} {state}"] += 1
        target = {"name": entity.name.title(), "type": "entity", "id": entity.id}
        return _response(f"Turned {state} the light", language, "action_done", target)

    async def _break(self, exchange: Exchange, fault: Fault | None) -> None:
        while fault is Fault.FLOOD:
            await exchange.send(b" " * 65536, "application/json")
        if fault is Fault.HANG:
            await asyncio.Event().wait()
        status, *reply = _REPLIES[fault]
        if status >= 400:
            raise Refusal(status, *reply)
        await exchange.reply(status, *reply)


def _plain(text: str) -> str:
    return re.sub(r"[.?!,]", "", text).strip().lower()


def _response(speech: str, language: str, kind: str, *success: dict[str, str]) -> dict[str, Any]:
    return {
        "speech": {"plain": {"speech": speech, "extra_data": None}},
        "card": {},
        "language": language,
        "response_type": kind,
        "data": {"targets": [], "success": list(success), "failed": []},
    }


def _error(speech: str, language: str, code: str) -> dict[str, Any]:
    return {**_response(speech, language, "error"), "data": {"code": code}}
