"""A server with Home Assistant's REST API for sentences, its shapes and its ways of failing, over real sockets."""

import asyncio
import base64
import json
import os
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from tests.doubles.http import Exchange, HttpServer, Refusal

Agent = Callable[[str, str, str], Awaitable[dict[str, Any]]]
"""Answers a text in a conversation and a language with the `response` of the API."""

VERSION = "2026.11.0"
BUILT_IN = "conversation.home_assistant"
_LOGIN_PAGE = b"<!DOCTYPE html><html><title>Log in</title><form method=post></form></html>"
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


class Fault(Enum):
    """What may go wrong with one request."""

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


_REFUSALS = {
    Fault.CRASH: (500, "500 Internal Server Error\n\nServer got itself in trouble"),
    Fault.BAD_GATEWAY: (502, "502 Bad Gateway"),
    Fault.STOPPING: (503, ""),
    Fault.NOT_LOADED: (404, "404: Not Found"),
}


@dataclass
class Entity:
    """A device of the house."""

    id: str
    name: str
    state: str = "off"
    works: bool = True
    area: str = ""
    """Where it was put itself, whatever its device."""


@dataclass
class Device:
    """A thing that stands in an area."""

    id: str
    name: str
    area: str = ""
    has_timers: bool = False
    """Whether it is a satellite."""


class HomeAssistantServer(HttpServer):
    """A house with a few devices behind a token; every setting may be changed at any time."""

    def __init__(self, *, token: str = "a-token", host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host=host, port=port)
        self.token = token
        self.repeats_token = False  # whether a failure quotes the token that was given
        self.state = "RUNNING"  # nOT_RUNNING, STARTING, RUNNING or STOPPING
        # The integrations that are loaded; what is not answers 404.
        self.components = ["api", "conversation", "http", "light"]
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
        # Languages that nobody has spoken yet: the first sentence in one is `slow_seconds` late.
        self.uncompiled: set[str] = set()
        self.temperatures = {"living room": "21.5"}  # by area, °C
        self.agents: dict[str, Agent] = {BUILT_IN: self._sentence}
        # Whether its agent understands "and the bedroom light?", as those with a language model do.
        self.follows_up = False
        # What it calls the conversations of the next sentences; without one, as the real one would.
        self.conversation_names: list[str | None] = []
        self.faults: list[Fault | None] = []  # one for each of the next sentences
        self.fault: Fault | None = None  # what is wrong with every request
        self.slow_seconds = 0.5
        self.executed: Counter[str] = Counter()  # how often something was done, such as `light.kitchen on`
        self.sentences = 0  # sentences that an agent was asked
        self._last: dict[str, str] = {}  # what was done last, by conversation

    def forget(self) -> None:
        """Lose the conversations."""
        self._last.clear()

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        try:
            await self._served(exchange)
        except Refusal as refusal:
            given = exchange.headers.get("authorization", "") if self.repeats_token else ""
            text = f"{refusal.message}{given}"
            await exchange.reply(refusal.status, text.encode() if not refusal.code else {"message": text})

    async def _served(self, exchange: Exchange) -> None:
        known = {"/api/": "GET", "/api/config": "GET", "/api/conversation/process": "POST", "/api/template": "POST"}
        is_sentence = exchange.path == "/api/conversation/process"
        fault = self.fault or (self.faults.pop(0) if is_sentence and self.faults else None)
        if fault not in (None, Fault.SLOW, Fault.CUT):
            return await self._break(exchange, fault)
        if self.refused >= self.login_attempts_threshold >= 0:
            raise Refusal(403, "403: Forbidden")
        if self.state == "STOPPING":
            raise Refusal(503, "")
        if exchange.path not in known or (is_sentence and "conversation" not in self.components):
            raise Refusal(404, "404: Not Found")
        if exchange.method != known[exchange.path]:
            raise Refusal(405, "405: Method Not Allowed")
        if exchange.headers.get("authorization", "") != f"Bearer {self.token}":
            self.refused += 1
            raise Refusal(401, "401: Unauthorized")
        if exchange.path == "/api/":
            return await exchange.reply(200, {"message": "API running."})
        if exchange.path == "/api/template":
            return await self._template(exchange)
        if not is_sentence:
            return await exchange.reply(200, self._config())
        return await self._process(exchange, fault)

    def _config(self) -> dict[str, Any]:
        return {
            "components": self.components,
            "config_dir": "/config",
            "language": "en",
            "location_name": "Home",
            "recovery_mode": False,
            "safe_mode": False,
            "state": self.state,
            "time_zone": "Europe/Berlin",
            "unit_system": {"temperature": "°C"},
            "version": VERSION,
        }

    async def _process(self, exchange: Exchange, fault: Fault | None) -> None:
        data = exchange.body
        if exchange.problem:
            raise Refusal(400, "Invalid JSON.", "invalid")
        agent = self._validated(data)
        conversation = _conversation(data.get("conversation_id"), self._last)
        language = data.get("language", "en")
        if fault is Fault.SLOW or language in self.uncompiled:
            await asyncio.sleep(self.slow_seconds)
        self.uncompiled.discard(language)
        self._last.setdefault(conversation, "")
        self.sentences += 1
        response = self._in_its_place(data) if agent == self._sentence else None
        response = response or await agent(data["text"], conversation, language)
        if fault is Fault.CUT:
            return exchange.writer.transport.abort()
        name = self.conversation_names.pop(0) if self.conversation_names else conversation
        return await exchange.reply(
            200, {"response": response, "conversation_id": name, "continue_conversation": False}
        )

    def _validated(self, data: Any) -> Agent:
        """Return who shall answer; complain as voluptuous does."""
        wrong = "Message format incorrect: "
        if not isinstance(data, dict):
            raise Refusal(400, f"{wrong}expected a dictionary", "invalid")
        places = ("device_id", "satellite_id") if self.knows_places else ()
        for key, value in data.items():
            if key not in ("text", "conversation_id", "language", "agent_id", *places):
                raise Refusal(400, f"{wrong}extra keys not allowed @ data['{key}']", "invalid")
            if not isinstance(value, str) and not (value is None and key in places):
                raise Refusal(400, f"{wrong}expected str for dictionary value @ data['{key}']", "invalid")
        if "text" not in data:
            raise Refusal(400, f"{wrong}required key not provided @ data['text']", "invalid")
        agent = self.agents.get(data.get("agent_id", BUILT_IN))
        if agent is None:
            raise Refusal(400, f"{wrong}invalid agent ID for dictionary value @ data['agent_id']", "invalid")
        return agent

    def _in_its_place(self, data: dict[str, Any]) -> dict[str, Any] | None:
        """Answer what depends on where it was said; None for anything else."""
        said = re.sub(r"[.?!,]", "", data["text"]).strip().lower()
        language = data.get("language", "en")
        device, area = self._device_and_area(data.get("satellite_id"), data.get("device_id"))
        if match := re.fullmatch(r"turn (on|off) the lights", said):
            lights = [one for one in self.entities if one.id.startswith("light.") and one.area == area]
            if not area:
                return _error("Sorry, I couldn't understand that", language, "no_intent_match")
            for light in lights:
                light.state = match[1]
                self.executed[f"{light.id} {match[1]}"] += 1
            return _response(f"Turned {match[1]} the lights", language, "action_done")
        if match := re.fullmatch(r"set a timer for (.+)", said):
            if device is None or not device.has_timers:
                return _error("Sorry, timers are not supported on this device", language, "failed_to_handle")
            self.timers.append((device.id, match[1]))
            return _response("Timer set", language, "action_done")
        return None

    def _device_and_area(self, satellite: str | None, device: str | None) -> tuple[Device | None, str]:
        """Return what the ids mean; the entity's own area comes first."""
        entity = next((one for one in self.entities if one.id == satellite), None)
        found = next((one for one in self.devices if one.id == device), None)
        area = (entity.area if entity else "") or (found.area if found else "")
        return found, area

    async def _template(self, exchange: Exchange) -> None:
        """Render a template, for administrators; what rendering it returns is the body."""
        if not self.is_administrators:
            self.refused += 1
            raise Refusal(401, "401: Unauthorized")
        if exchange.problem or not isinstance(exchange.body, dict):
            raise Refusal(400, "Invalid JSON specified.", "invalid")
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment()
        environment.filters["to_json"] = json.dumps
        environment.globals |= {
            "area_devices": lambda area: [one.id for one in self.devices if one.area == area],
            "area_entities": lambda area: [one.id for one in self.entities if one.area == area],
            "device_id": lambda name: next((one.id for one in self.devices if one.name == name), None),
        }
        try:
            template = environment.from_string(exchange.body["template"])
            rendered = template.render(exchange.body.get("variables") or {})
        except TemplateError as error:
            raise Refusal(400, f"Error rendering template: {error}", "invalid") from error
        await exchange.reply(200, rendered.strip().encode())

    async def _sentence(self, text: str, conversation: str, language: str) -> dict[str, Any]:
        """Do or answer what the built-in sentences understand."""
        said = re.sub(r"[.?!,]", "", text).strip().lower()
        if match := re.fullmatch(r"turn (on|off) (?:the )?(.+)", said):
            self._last[conversation] = match[1]
            return self._turned(match[1], match[2], language)
        if self.follows_up and self._last[conversation] and (match := re.fullmatch(r"and (?:the )?(.+)", said)):
            return self._turned(self._last[conversation], match[1], language)
        if match := re.fullmatch(r"what is the temperature in (?:the )?(.+)", said):
            if degrees := self.temperatures.get(match[1]):
                return _response(f"{degrees} °C", language, "query_answer")
            return _error(f"Sorry, I am not aware of any area called {match[1]}", language, "no_valid_targets")
        if match := re.fullmatch(r"what is (?:the )?(.+)", said):
            return _error(f"Sorry, I am not aware of any device called {match[1]}", language, "no_valid_targets")
        if said == "good night":
            self.executed["script.good_night"] += 1
            return _response("", language, "action_done")
        if said.startswith("add milk"):
            return _error("Unknown intent HassShoppingListAddItem", language, "unknown")
        if said == "run the broken script":
            return _error("An unexpected error occurred", language, "unknown")
        return _error("Sorry, I couldn't understand that", language, "no_intent_match")

    def _turned(self, state: str, name: str, language: str) -> dict[str, Any]:
        entity = next((entity for entity in self.entities if entity.name == name), None)
        if entity is None:
            return _error(f"Sorry, I am not aware of any device called {name}", language, "no_valid_targets")
        if not entity.works:
            return _error(f"The {entity.name} did not respond", language, "failed_to_handle")
        entity.state = state
        self.executed[f"{entity.id} {state}"] += 1
        target = {"name": entity.name.title(), "type": "entity", "id": entity.id}
        return _response(f"Turned {state} the light", language, "action_done", target)

    async def _break(self, exchange: Exchange, fault: Fault | None) -> None:
        """Go wrong without having done anything."""
        if fault in _REFUSALS:
            raise Refusal(*_REFUSALS[fault])
        match fault:
            case Fault.GARBAGE:
                await exchange.reply(200, b"\x00\xff{")
            case Fault.STRANGE:
                await exchange.reply(200, {"response": {"response_type": "poem"}, "components": "all"})
            case Fault.FLOOD:
                while True:
                    await exchange.send(b" " * 65536, "application/json")
            case Fault.LOGIN_PAGE:
                await exchange.send(_LOGIN_PAGE, "text/html")
                await exchange.end()
            case Fault.REDIRECT:
                await exchange.reply(302, b"302: Found", {"Location": f"{self.url}/login"})
            case Fault.ENDLESS_REDIRECT:
                await exchange.reply(302, b"302: Found", {"Location": f"/{'a' * 65_530}"})
            case _:
                await asyncio.Event().wait()


def _conversation(asked: str | None, known: dict[str, str]) -> str:
    """Return the name of a conversation: one's own choice is kept, an old one of the server's replaced."""
    if asked is not None and (asked in known or not _ULID.fullmatch(asked)):
        return asked
    return "01" + base64.b32hexencode(os.urandom(15)).decode().translate(str.maketrans("ILOU", "WXYZ"))


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
