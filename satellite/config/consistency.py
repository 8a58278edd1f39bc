"""Settings that are each valid, but contradict each other."""

from collections.abc import Iterator

from satellite.config.endpoint import EndpointSettings
from satellite.config.rooms import BrowserRoomSettings, EsphomeRoomSettings, RoomSettings
from satellite.config.settings import Config
from satellite.languages import family

Where = tuple[str | int, ...]
"""Place of a value in the document, such as ("chat", "providers", 0, "url")."""

Problems = Iterator[tuple[Where, str]]


def contradictions(config: Config) -> Problems:
    """Yield where and what: ports, rooms and providers that are given twice, settings that need or exclude another."""
    yield from _port_clashes(config)
    yield from _rooms_twice(config)
    yield from _speakers(config)
    yield from _providers_twice(config)
    yield from _host_room(config)
    yield from _languages(config)
    yield from _pauses(config.endpoint)


def _port_clashes(config: Config) -> Problems:
    taken: dict[int, Where] = {}
    for where, (port, _) in config.ports.items():
        if (first := taken.setdefault(port, where)) != where:
            yield where, f"port {port} is also {dotted(first)}; expected another one"


def places(config: Config) -> Iterator[tuple[Where, RoomSettings]]:
    """Yield every room, the host's own first, and its place in the document."""
    if config.microphone.given:
        yield ("host_room",), config.host_room
    for index, room in enumerate(config.rooms):
        yield ("rooms", index), room


def _rooms_twice(config: Config) -> Problems:
    """Yield rooms with the same name, which people could not distinguish, or the same address."""
    names: dict[str, Where] = {}
    for where, place in places(config):
        # Names are spoken and heard, so case does not distinguish them.
        first = names.setdefault(place.name.strip().casefold(), where)
        if first != where:
            yield (*where, "name"), f"{place.name!r} is also the name of {dotted(first)}"
    addresses: dict[str, int] = {}
    macs: dict[str, int] = {}
    for index, room in enumerate(config.rooms):
        if isinstance(room, BrowserRoomSettings):
            continue  # they share their uri
        address = f"{room.address}" if isinstance(room, EsphomeRoomSettings) else room.uri.lower().rstrip("/")
        first_index = addresses.setdefault(address, index)
        if first_index != index:
            yield ("rooms", index, "uri"), f"{room.uri!r} is also the uri of rooms[{first_index}]"
        mac = getattr(room, "mac", None)
        if mac is not None and (first_index := macs.setdefault(mac, index)) != index:
            yield ("rooms", index, "mac"), f"{mac!r} is also the mac of rooms[{first_index}]"


def _speakers(config: Config) -> Problems:
    """Yield speakers that are in no room, or of which each is another's, and players without Home Assistant."""
    heard_in = {place.name: place.speaker.room if place.speaker else None for _, place in places(config)}
    for where, place in places(config):
        if place.speaker is None:
            continue
        here = (*where, "speaker")
        if place.speaker.entity is not None and config.home_assistant.url is None:
            yield (*here, "entity"), "it is Home Assistant's; expected a value for home_assistant.url"
        if place.speaker.room is not None and place.speaker.room not in heard_in:
            yield (*here, "room"), f"there is no room {place.speaker.room!r}; expected one of {', '.join(heard_in)}"
        passed, room = {place.name}, place.speaker.room
        while room is not None and room not in passed:
            passed.add(room)
            room = heard_in.get(room)
        if room == place.name:
            yield (*here, "room"), "the sound would go in a circle; expected a room that is heard itself"


def _providers_twice(config: Config) -> Problems:
    seen: dict[tuple[str, str, str], int] = {}
    for index, provider in enumerate(config.chat.providers):
        # The same server in another spelling is the same server.
        key = (provider.type, getattr(provider, "url", "").rstrip("/").casefold(), provider.model)
        first = seen.setdefault(key, index)
        if first != index:
            yield ("chat", "providers", index), f"the same provider as chat.providers[{first}]"


def _host_room(config: Config) -> Problems:
    if config.speaker.given and not config.microphone.given:
        yield ("speaker",), "the host's own room needs a microphone as well; expected a value for microphone"
    if config.home_assistant_satellite.enabled and not config.microphone.given:
        yield ("home_assistant_satellite", "enabled"), "there is no microphone; expected a value for microphone"


def _languages(config: Config) -> Problems:
    """Yield a language that is fixed, though several are spoken or others than it."""
    known, fixed = config.languages, config.stt.language
    families = [family(language) for language in known]
    if known and fixed is not None and families != [family(fixed)]:
        reason = f"all that is said would be taken for {fixed!r}, but languages is {', '.join(known)}"
        yield ("stt", "language"), f"{reason}; expected one of the two settings"
    for where, place in places(config):
        if known and place.language is not None and family(place.language) not in families:
            yield (*where, "language"), f"{place.language!r} is not in languages; expected one of {', '.join(known)}"


def _pauses(endpoint: EndpointSettings) -> Problems:
    """Yield silences with which every command would be cut off."""
    longest = endpoint.max_command_seconds
    for key in (name for name in EndpointSettings.model_fields if name.endswith("silence_seconds")):
        # A command would end at its longest duration before any silence could end it.
        if getattr(endpoint, key) >= longest:
            yield ("endpoint", "max_command_seconds"), f"expected more than endpoint.{key}, found {longest:g}"
            return


def dotted(where: Where) -> str:
    """Return a place as messages show it, such as `chat.providers[0].url`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).lstrip(".")
