"""The end of a command as a pure state machine."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.config.endpoint import EndpointSettings
from satellite.pipeline.completeness import Completeness
from satellite.pipeline.turn_detection import TurnDetector, TurnState, scaled

WINDOW = 0.032


def feed(endpoint: TurnDetector, seconds: float, is_speech: bool) -> TurnState:
    state = endpoint.state
    for _ in range(round(seconds / WINDOW)):
        state = endpoint.feed(WINDOW, is_speech)
    return state


WAITING, SPEAKING, ENDED, NO_SPEECH = TurnState


@pytest.mark.parametrize(
    ("endpoint", "steps"),
    [
        # Silence after speech ends the command, and not before it is long enough.
        (
            {"silence_seconds": 0.7, "least_silence_seconds": 0.7},
            [(1.0, False, WAITING), (1.0, True, SPEAKING), (0.6, False, SPEAKING), (0.2, False, ENDED)],
        ),
        # Speech that goes on resets the silence.
        (
            {"silence_seconds": 0.7, "least_silence_seconds": 0.7},
            [(1.0, True, SPEAKING), (0.5, False, SPEAKING), (0.1, True, SPEAKING), (0.5, False, SPEAKING)],
        ),
        # Without speech the wait is bounded, but it does not end in the middle of a first syllable.
        ({"no_speech_seconds": 5}, [(4.9, False, WAITING), (0.2, False, NO_SPEECH), (1.0, True, NO_SPEECH)]),
        ({"no_speech_seconds": 5}, [(4.97, False, WAITING), (0.2, True, SPEAKING)]),
        # One loud window does not begin a command, and a command has a longest length.
        ({}, [(WINDOW, True, WAITING), (WINDOW, False, WAITING)] * 10),
        ({"max_command_seconds": 15}, [(14.9, True, SPEAKING), (0.2, True, ENDED)]),
    ],
)
def test_the_state_follows_what_is_heard(
    endpoint: dict[str, float], steps: list[tuple[float, bool, TurnState]]
) -> None:
    turn = TurnDetector(EndpointSettings(**endpoint))
    for seconds, is_speech, state in steps:
        assert feed(turn, seconds, is_speech) is state
        if state is SPEAKING and is_speech:
            assert turn.silence_seconds == 0


@pytest.mark.parametrize(
    ("silence_seconds", "parts", "needed_seconds"),
    [
        # A speaker who has hardly begun is waited for longer.
        (0.9, [(1.0, 0.1)], 0.87),
        (0.9, [(1.0, 0.6)], 0.72),
        (0.9, [(1.0, 1.5)], 0.5),
        (0.9, [(1.0, 4.0)], 0.5),
        # One who has paused may pause again as long, for a little longer.
        (0.9, [(0, 0.1), (0.1, 2.0)], 0.5),
        (0.9, [(0, 0.1), (0.45, 2.0)], 0.62),
        (0.9, [(0, 0.1), (0.7, 2.0)], 0.85),
        (0.9, [(0, 0.1), (0.85, 2.0)], 0.9),
        # Silence before the command is no pause in it.
        (0.9, [*[(0.1, 2 * WINDOW)] * 20, (0.8, 0.1)], 0.87),
        # A short longest silence bounds the shortest.
        (0.3, [(0, 2.0)], 0.3),
    ],
)
def test_how_long_the_silence_is_that_ends_a_command(
    silence_seconds: float, parts: list[tuple[float, float]], needed_seconds: float
) -> None:
    turn = TurnDetector(EndpointSettings(silence_seconds=silence_seconds, least_silence_seconds=0.5))
    for paused, spoken in parts:
        feed(turn, paused, False)
        feed(turn, spoken, True)
    spoken_until = turn.seconds
    while turn.state is SPEAKING:
        turn.feed(WINDOW, False)
    assert turn.state is ENDED
    assert turn.seconds - spoken_until == pytest.approx(needed_seconds, abs=1.5 * WINDOW)


def test_speech_that_fades_is_silence_that_ends_nothing() -> None:
    endpoint = TurnDetector(EndpointSettings(complete_silence_seconds=0.3))
    feed(endpoint, 1.0, True)
    for _ in range(12):
        assert endpoint.feed(WINDOW, True, fades=True) is TurnState.SPEAKING
        assert endpoint.pauses
        assert endpoint.last_speech_at == pytest.approx(0.992)
        endpoint.set_completeness(Completeness.COMPLETE)
    assert endpoint.feed(WINDOW, False) is TurnState.ENDED


def test_who_has_not_begun_cannot_fade() -> None:
    endpoint = TurnDetector(EndpointSettings())
    for _ in range(3):
        endpoint.feed(WINDOW, True, fades=True)
    assert endpoint.state is TurnState.SPEAKING
    assert not endpoint.pauses


@pytest.mark.parametrize(
    ("sensitivity", "factor"),
    [(None, 1), ("default", 1), ("relaxed", 1.25 / 0.7), ("aggressive", 0.25 / 0.7), ("odd", 1)],
)
def test_the_clients_sensitivity_scales_the_silence(sensitivity: str | None, factor: float) -> None:
    scale = {f"{kind}silence_seconds": factor for kind in ("", "least_", "sentence_", "repairable_", "complete_")}
    expected = {name: value * scale.get(name, 1) for name, value in EndpointSettings().model_dump().items()}
    assert scaled(EndpointSettings(), sensitivity).model_dump() == pytest.approx(expected)


@settings(max_examples=25)
@given(st.lists(st.booleans(), max_size=500))
def test_every_command_ends_in_bounded_time(speech: list[bool]) -> None:
    endpoint = TurnDetector(EndpointSettings(no_speech_seconds=2, max_command_seconds=6))
    ended = None
    for is_speech in [*speech, *[False] * 400]:
        state = endpoint.feed(WINDOW, is_speech)
        assert ended is None or state is ended
        if state in (TurnState.ENDED, TurnState.NO_SPEECH):
            ended = state
    assert ended is not None
    assert endpoint.seconds <= 6 + 1


def test_it_may_be_asked_instead() -> None:
    def turn(max_command_seconds: float = 15.0) -> TurnDetector:
        return TurnDetector(EndpointSettings(max_command_seconds=max_command_seconds), automatic=False)

    long = turn(4.0)
    assert [feed(long, *step) for step in ((7.0, False), (1.0, True), (3.0, False))] == [WAITING, SPEAKING, SPEAKING]
    long.set_completeness(Completeness.COMPLETE)
    long.release()
    assert feed(long, 0.5, True) is SPEAKING
    for steps, state in (
        ([(1.0, True)], SPEAKING),
        ([(1.0, True), (1.0, False)], ENDED),
        ([(6.0, False)], NO_SPEECH),
    ):
        asked = turn()
        for step in steps:
            feed(asked, *step)
        assert asked.decide() is state


def test_what_had_no_words_was_no_beginning() -> None:
    turn = TurnDetector(EndpointSettings())
    assert [feed(turn, 0.2, True), feed(turn, 0.5, False)] == [SPEAKING, SPEAKING]
    turn.restart()
    assert [feed(turn, *step) for step in ((2.0, False), (1.0, True), (1.0, False))] == [WAITING, SPEAKING, ENDED]
    turn.restart()
    assert turn.state is ENDED
    turn = TurnDetector(EndpointSettings())
    feed(turn, 0.2, True)
    turn.restart()
    assert feed(turn, 5.0, False) is NO_SPEECH
