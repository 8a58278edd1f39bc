"""When to try again."""

from satellite.backoff import Backoff


def test_tries_grow_rarer_and_never_in_step() -> None:
    whole = [0.5, 1, 2, 4, 8, 16, 30, 30]
    exact, jittered = Backoff(0.5, 30, jitter=False), Backoff(0.5, 30)
    assert [exact.next() for _ in whole] == whole
    assert all(seconds / 2 <= jittered.next() <= seconds for seconds in whole)
    exact.reset()
    assert exact.next() == 0.5
