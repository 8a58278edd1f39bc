"""The silence after a sentence adapts to the pauses of the people in a room."""

import pytest

from satellite.config.endpoint import EndpointSettings
from satellite.pipeline.pause_habits import PauseHabits
from tests.virtual_clock import ManualClock

HOUR = 3600.0


@pytest.mark.parametrize(
    ("pauses", "expected"),
    [
        ([], 0.6),
        ([0.7] * 4, 0.6),  # too few to be a habit
        ([0.0] * 5, 0.4),
        ([0.0] * 9 + [0.8], 0.4),  # one pause is none either
        ([0.0] * 8 + [0.6, 0.8], 0.75),
        ([2.0] * 5, 1.1),  # never longer than the longest silence
        ([0.7, 0.7] + [0.0] * 10, 0.4),  # long ago
    ],
)
def test_the_silence_follows_the_pauses_of_the_latest_commands(pauses: list[float], expected: float) -> None:
    habits = PauseHabits(HOUR, clock=ManualClock())
    for pause in pauses:
        habits.add("kitchen", pause)
    settings = EndpointSettings()
    adapted = habits.adapted("kitchen", settings)
    assert adapted.sentence_silence_seconds == pytest.approx(expected)
    assert adapted.model_copy(update={"sentence_silence_seconds": 0.6}) == settings
    assert habits.adapted("office", settings) == settings


def test_what_is_configured_to_be_short_is_not_made_longer_without_pauses() -> None:
    habits = PauseHabits(HOUR, clock=ManualClock())
    for _ in range(5):
        habits.add("kitchen", 0.0)
    settings = EndpointSettings(sentence_silence_seconds=0.3)
    assert habits.adapted("kitchen", settings) == settings


def test_a_habit_is_forgotten_with_the_conversation_and_rooms_are_bounded() -> None:
    clock = ManualClock()
    habits = PauseHabits(HOUR, clock=clock)
    settings = EndpointSettings()
    for room in ("kitchen", *map(str, range(300))):
        for _ in range(5):
            habits.add(room, 0.7)
    assert habits.adapted("kitchen", settings) == settings
    assert habits.adapted("299", settings) != settings
    clock.now += HOUR + 1
    assert habits.adapted("299", settings) == settings
