"""The end of a command as a pure state machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satellite.config.settings import EndpointSettings
from satellite.pipeline.completeness import Completeness
from satellite.pipeline.turn_detection import TurnDetector, TurnState, scaled

WINDOW = 0.032


def feed(endpoint: TurnDetector, seconds: float, is_speech: bool) -> TurnState:
    """Feed windows for `seconds` and return the last state."""
    state = endpoint.state
    for _ in range(round(seconds / WINDOW)):
        state = endpoint.feed(WINDOW, is_speech)
    return state


def feed_until_it_ends(endpoint: TurnDetector) -> float:
    """Feed silence until the command ends, and return how much it took, seconds."""
    before = endpoint.seconds
    while endpoint.state is TurnState.SPEAKING:
        endpoint.feed(WINDOW, False)
    assert endpoint.state is TurnState.ENDED
    return endpoint.seconds - before


WAITING, SPEAKING, ENDED, NO_SPEECH = TurnState


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        pytest.param(
            {"silence_seconds": 0.7, "least_silence_seconds": 0.7},
            [(1.0, False, WAITING), (1.0, True, SPEAKING), (0.6, False, SPEAKING), (0.2, False, ENDED)],
            id="silence after speech ends the command, and not before it is long enough",
        ),
        pytest.param(
            {"silence_seconds": 0.7, "least_silence_seconds": 0.7},
            [(1.0, True, SPEAKING), (0.5, False, SPEAKING), (0.1, True, SPEAKING), (0.5, False, SPEAKING)],
            id="speech that goes on resets the silence",
        ),
        pytest.param(
            {"no_speech_seconds": 5},
            [(4.9, False, WAITING), (0.2, False, NO_SPEECH), (1.0, True, NO_SPEECH)],
            id="without speech the wait is bounded",
        ),
        pytest.param(
            {"no_speech_seconds": 5},
            [(4.97, False, WAITING), (0.2, True, SPEAKING)],
            id="the wait does not end in the middle of a first syllable",
        ),
        pytest.param(
            {}, [(WINDOW, True, WAITING), (WINDOW, False, WAITING)] * 10, id="one loud window does not begin a command"
        ),
        pytest.param(
            {"max_command_seconds": 15},
            [(14.9, True, SPEAKING), (0.2, True, ENDED)],
            id="a command has a longest length",
        ),
    ],
)
def test_the_state_follows_what_is_heard(
    settings: dict[str, float], steps: list[tuple[float, bool, TurnState]]
) -> None:
    turn = TurnDetector(EndpointSettings(**settings))
    for seconds, is_speech, state in steps:
        assert feed(turn, seconds, is_speech) is state
        if state is SPEAKING and is_speech:
            assert turn.silence_seconds == 0


def test_who_has_hardly_begun_is_waited_for_longer() -> None:
    settings = EndpointSettings(silence_seconds=0.9, least_silence_seconds=0.5)
    needed = []
    for spoken_seconds in (0.1, 0.6, 1.0, 1.5, 4.0):
        endpoint = TurnDetector(settings)
        feed(endpoint, 1.0, False)
        feed(endpoint, spoken_seconds, True)
        needed.append(feed_until_it_ends(endpoint))
    assert needed == sorted(needed, reverse=True)
    assert needed[0] == pytest.approx(0.87, abs=WINDOW)
    assert needed[1] == pytest.approx(0.72, abs=WINDOW)
    assert needed[-2:] == pytest.approx([0.5, 0.5], abs=WINDOW)


@pytest.mark.parametrize(("pause_seconds", "needed_seconds"), [(0.1, 0.5), (0.45, 0.62), (0.7, 0.85), (0.85, 0.9)])
def test_who_has_paused_may_pause_again_as_long(pause_seconds: float, needed_seconds: float) -> None:
    endpoint = TurnDetector(EndpointSettings(silence_seconds=0.9, least_silence_seconds=0.5))
    feed(endpoint, 0.1, True)
    assert feed(endpoint, pause_seconds, False) is TurnState.SPEAKING
    feed(endpoint, 2.0, True)
    assert feed_until_it_ends(endpoint) == pytest.approx(needed_seconds, abs=1.5 * WINDOW)


def test_silence_before_the_command_is_no_pause_in_it() -> None:
    endpoint = TurnDetector(EndpointSettings(silence_seconds=0.9, least_silence_seconds=0.5))
    for _ in range(20):
        feed(endpoint, 2 * WINDOW, True)
        feed(endpoint, 0.1, False)
    feed(endpoint, 0.7, False)
    feed(endpoint, 0.1, True)
    assert feed_until_it_ends(endpoint) == pytest.approx(0.87, abs=WINDOW)


def test_a_short_least_silence_needs_no_longer_first_one() -> None:
    endpoint = TurnDetector(EndpointSettings(silence_seconds=0.3, least_silence_seconds=0.5))
    feed(endpoint, 2.0, True)
    assert feed_until_it_ends(endpoint) == pytest.approx(0.3, abs=WINDOW)


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
    usual = EndpointSettings()
    settings = scaled(usual, sensitivity)
    assert settings.silence_seconds == pytest.approx(usual.silence_seconds * factor)
    assert settings.least_silence_seconds == pytest.approx(usual.least_silence_seconds * factor)
    assert settings.no_speech_seconds == usual.no_speech_seconds
    assert settings.max_command_seconds == usual.max_command_seconds


@given(st.lists(st.booleans(), max_size=1000))
def test_every_command_ends_in_bounded_time(speech: list[bool]) -> None:
    settings = EndpointSettings(no_speech_seconds=2, max_command_seconds=6)
    endpoint = TurnDetector(settings)
    ended = None
    for is_speech in [*speech, *[False] * 400]:
        state = endpoint.feed(WINDOW, is_speech)
        assert ended is None or state is ended
        if state in (TurnState.ENDED, TurnState.NO_SPEECH):
            ended = state
    assert ended is not None
    assert endpoint.seconds <= settings.max_command_seconds + 1


def decided(seconds: float, is_speech: bool, *more: tuple[float, bool]) -> TurnState:
    """Return what a detector that is not automatic decides."""
    turn = TurnDetector(EndpointSettings(), automatic=False)
    for step in ((seconds, is_speech), *more):
        feed(turn, *step)
    return turn.decide()


def test_it_may_be_asked_instead() -> None:
    turn = TurnDetector(EndpointSettings(max_command_seconds=4.0), automatic=False)
    assert feed(turn, 7.0, False) is WAITING
    assert feed(turn, 1.0, True) is SPEAKING
    assert feed(turn, 3.0, False) is SPEAKING
    turn.set_completeness(Completeness.COMPLETE)
    turn.release()
    assert feed(turn, 0.5, True) is SPEAKING
    assert decided(1.0, True) is SPEAKING
    assert decided(1.0, True, (1.0, False)) is ENDED
    assert decided(6.0, False) is NO_SPEECH


def test_what_had_no_words_was_no_beginning() -> None:
    turn = TurnDetector(EndpointSettings())
    assert feed(turn, 0.2, True) is SPEAKING
    assert feed(turn, 0.5, False) is SPEAKING
    turn.restart()
    assert feed(turn, 2.0, False) is WAITING
    assert feed(turn, 1.0, True) is SPEAKING
    assert feed(turn, 1.0, False) is ENDED
    turn.restart()
    assert turn.state is ENDED
    turn = TurnDetector(EndpointSettings())
    feed(turn, 0.2, True)
    turn.restart()
    assert feed(turn, 5.0, False) is NO_SPEECH
