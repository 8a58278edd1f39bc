"""The end of a command as a pure state machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satellite.turn.endpoint import Endpoint, EndpointSettings, EndpointState

WINDOW = 0.032


def feed(endpoint: Endpoint, seconds: float, is_speech: bool) -> EndpointState:
    """Feed windows for `seconds` and return the last state."""
    state = endpoint.state
    for _ in range(round(seconds / WINDOW)):
        state = endpoint.feed(WINDOW, is_speech)
    return state


def test_silence_after_speech_ends_the_command() -> None:
    """The command ends once the silence is long enough, not before."""
    endpoint = Endpoint(EndpointSettings(silence_seconds=0.7))
    assert feed(endpoint, 1.0, False) is EndpointState.WAITING
    assert feed(endpoint, 1.0, True) is EndpointState.SPEAKING
    assert feed(endpoint, 0.6, False) is EndpointState.SPEAKING
    assert feed(endpoint, 0.2, False) is EndpointState.ENDED
    assert endpoint.last_speech_at == pytest.approx(2.0, abs=2 * WINDOW)


def test_a_pause_does_not_end_it() -> None:
    """Speech that goes on resets the silence."""
    endpoint = Endpoint(EndpointSettings(silence_seconds=0.7))
    feed(endpoint, 1.0, True)
    feed(endpoint, 0.5, False)
    feed(endpoint, 0.1, True)
    assert feed(endpoint, 0.5, False) is EndpointState.SPEAKING


def test_nobody_speaks() -> None:
    """Without speech the wait is bounded."""
    endpoint = Endpoint(EndpointSettings(no_speech_seconds=5))
    assert feed(endpoint, 4.9, False) is EndpointState.WAITING
    assert feed(endpoint, 0.2, False) is EndpointState.NO_SPEECH
    assert feed(endpoint, 1.0, True) is EndpointState.NO_SPEECH


def test_a_click_is_no_speech() -> None:
    """One loud window does not begin a command."""
    endpoint = Endpoint(EndpointSettings())
    for _ in range(10):
        endpoint.feed(WINDOW, True)
        assert endpoint.feed(WINDOW, False) is EndpointState.WAITING


def test_endless_speech_is_capped() -> None:
    """A command is never longer than its limit."""
    endpoint = Endpoint(EndpointSettings(max_command_seconds=15))
    assert feed(endpoint, 14.9, True) is EndpointState.SPEAKING
    assert feed(endpoint, 0.2, True) is EndpointState.ENDED


@pytest.mark.parametrize(
    ("sensitivity", "silence"), [(None, 0.7), ("default", 0.7), ("relaxed", 1.25), ("aggressive", 0.25), ("odd", 0.7)]
)
def test_the_clients_sensitivity_scales_the_silence(sensitivity: str | None, silence: float) -> None:
    """Home Assistant's three sensitivities wait as long as its own."""
    assert EndpointSettings().scaled(sensitivity).silence_seconds == pytest.approx(silence)


@given(st.lists(st.booleans(), max_size=1000))
def test_every_command_ends_in_bounded_time(speech: list[bool]) -> None:
    """Whatever the VAD says, an ended state comes by the caps and is final."""
    settings = EndpointSettings(no_speech_seconds=2, max_command_seconds=6)
    endpoint = Endpoint(settings)
    ended = None
    for is_speech in [*speech, *[False] * 400]:
        state = endpoint.feed(WINDOW, is_speech)
        assert ended is None or state is ended
        if state in (EndpointState.ENDED, EndpointState.NO_SPEECH):
            ended = state
    assert ended is not None
    assert endpoint.seconds <= settings.max_command_seconds + 1
