"""When a provider that fails is left alone, and for how long."""

import pytest

from satellite.errors import ChatError, ChatRejected, ChatUnavailable
from satellite.net.circuit_breaker import BreakerState, CircuitBreaker
from tests.virtual_clock import ManualClock

DOWN = ChatUnavailable("it is down")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> CircuitBreaker:
    return CircuitBreaker(now=clock)


def test_it_begins_closed(breaker: CircuitBreaker) -> None:
    assert (breaker.state, breaker.up, breaker.due, breaker.forbidden) == (BreakerState.CLOSED, True, False, False)
    assert (breaker.reason, breaker.since) == ("", 1000)


def test_a_probe_may_run_at_once_after_the_first_failure_and_later_after_each_further_one(
    breaker: CircuitBreaker, clock: ManualClock
) -> None:
    for seconds in (0, 1, 2, 4, 8, 16, 32, 60, 60, *[60] * 50):
        breaker.failed(DOWN)
        assert (breaker.state, breaker.up, breaker.since) == (BreakerState.OPEN, False, 1000)
        assert (breaker.reason, breaker.cause) == ("it is down", "failing")
        assert breaker.due is (seconds == 0)
        assert not breaker.forbidden
        clock.now += max(0, seconds - 0.01)
        assert breaker.due is (seconds == 0)
        clock.now += 0.02
        assert breaker.due


def test_a_probe_half_opens_it_and_an_answer_closes_it(breaker: CircuitBreaker, clock: ManualClock) -> None:
    breaker.failed(DOWN)
    clock.now += 5
    breaker.probe_succeeded()
    assert (breaker.state, breaker.up, breaker.due, breaker.since) == (BreakerState.HALF_OPEN, True, False, 1005)
    breaker.failed(DOWN)
    assert (breaker.state, breaker.due) == (BreakerState.OPEN, False)
    clock.now += 1
    breaker.probe_succeeded()
    breaker.succeeded()
    assert (breaker.state, breaker.reason, breaker.cause) == (BreakerState.CLOSED, "", "")
    breaker.failed(DOWN)
    assert breaker.due


def test_an_outage_that_is_over_excuses_the_failures(breaker: CircuitBreaker, clock: ManualClock) -> None:
    for _ in range(10):
        breaker.failed(DOWN)
    breaker.outage_ended()
    assert (breaker.state, breaker.due) == (BreakerState.OPEN, True)
    breaker.failed(DOWN)
    assert not breaker.due
    clock.now += 1
    assert breaker.due


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ChatUnavailable("", kind="unreachable"), "unreachable"),
        (ChatUnavailable("", kind="timeout"), "silent"),
        (ChatUnavailable("", kind="slow"), "slow"),
        (ChatUnavailable("", kind="unknown-model"), "model-missing"),
        (ChatRejected("", kind="refused"), "refused"),
        (ChatRejected("", kind="too-long"), ""),
        (ChatRejected(""), ""),
    ],
)
def test_a_failure_names_its_cause_unless_it_is_the_questions_fault(
    breaker: CircuitBreaker, error: ChatError, cause: str
) -> None:
    breaker.failed(error)
    assert (breaker.cause, breaker.up) == (cause, not cause)


@pytest.mark.parametrize(
    ("asked", "held"), [(7.0, 7.0), (86_400.0, 86_400.0), (1e12, 86_400.0), (float("inf"), 86_400.0)]
)
def test_what_the_provider_itself_asks_for_is_heeded(
    breaker: CircuitBreaker, clock: ManualClock, asked: float, held: float
) -> None:
    breaker.failed(DOWN, hold_seconds=asked)
    assert (breaker.forbidden, breaker.due) == (True, False)
    clock.now += held - 1
    assert breaker.forbidden
    clock.now += 2
    assert (breaker.forbidden, breaker.due, breaker.up) == (False, True, False)
    breaker.failed(DOWN)
    assert not breaker.forbidden


def test_a_provider_may_be_left_alone_without_a_failure(breaker: CircuitBreaker, clock: ManualClock) -> None:
    breaker.rest(3, "it allows no more")
    assert (breaker.state, breaker.forbidden, breaker.reason) == (BreakerState.OPEN, True, "it allows no more")
    clock.now += 3
    assert (breaker.forbidden, breaker.due) == (False, True)
    breaker.probe_succeeded()
    breaker.failed(DOWN)
    assert breaker.due  # it is the first


def test_only_the_third_empty_answer_in_a_row_is_the_providers_fault(breaker: CircuitBreaker) -> None:
    empty = ChatUnavailable("an empty answer", kind="empty")
    for _ in range(2):
        breaker.failed(empty)
    assert breaker.up
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(empty)
    assert breaker.up
    breaker.failed(empty)
    assert not breaker.up
