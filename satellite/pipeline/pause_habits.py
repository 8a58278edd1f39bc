"""How long the people in a room pause within their commands, by which their sentences end sooner or later."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from satellite.clock import monotonic
from satellite.config.endpoint import EndpointSettings

_COMMANDS = 10
"""The latest commands of a room that count, and of them the second longest pause: one alone is no habit."""

_LEAST_COMMANDS = 5
_MARGIN_SECONDS = 0.15
"""How much longer than the pauses so far the next one may be."""

_LEAST_SILENCE_SECONDS = 0.4
"""Shortest silence after a sentence, however fluently people speak."""

_ROOMS = 256
"""Rooms that are remembered; the least recently used is dropped."""


@dataclass(slots=True)
class _Habit:
    pauses: deque[float] = field(default_factory=lambda: deque(maxlen=_COMMANDS))
    used_at: float = 0.0


class PauseHabits:
    """Remembers the longest pause of each of a room's latest commands: numbers, no words."""

    def __init__(self, kept_seconds: float, *, clock: Callable[[], float] = monotonic) -> None:
        """Forget a room in which nobody has spoken for `kept_seconds`."""
        self._kept_seconds = kept_seconds
        self._clock = clock
        self._rooms: OrderedDict[str, _Habit] = OrderedDict()

    def add(self, room: str, pause_seconds: float) -> None:
        """Remember the longest pause of a command, 0 for one without."""
        self._expire()
        habit = self._rooms.setdefault(room, _Habit())
        habit.pauses.append(pause_seconds)
        habit.used_at = self._clock()
        self._rooms.move_to_end(room)
        while len(self._rooms) > _ROOMS:
            self._rooms.popitem(last=False)

    def adapted(self, room: str, settings: EndpointSettings) -> EndpointSettings:
        """Return the settings with the silence after a sentence that suits the room, at most `silence_seconds`."""
        self._expire()
        habit = self._rooms.get(room)
        if habit is None or len(habit.pauses) < _LEAST_COMMANDS:
            return settings
        usual = sorted(habit.pauses)[-2] + _MARGIN_SECONDS
        shortest = min(_LEAST_SILENCE_SECONDS, settings.sentence_silence_seconds)
        seconds = min(max(usual, shortest), max(settings.silence_seconds, shortest))
        return settings.model_copy(update={"sentence_silence_seconds": seconds})

    def _expire(self) -> None:
        limit = self._clock() - self._kept_seconds
        while self._rooms and next(iter(self._rooms.values())).used_at < limit:
            self._rooms.popitem(last=False)
