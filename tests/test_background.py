"""Background tasks: one that fails is logged once, counted, shown, and begun again; or ends the daemon."""

import asyncio
import gc
import logging
from itertools import pairwise

import pytest

from satellite.backoff import Backoff
from satellite.errors import ChatError
from satellite.tasks import Background, TaskStatus, attempt, begin_task, end_tasks

pytestmark = pytest.mark.virtual_clock


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def fails() -> None:
    raise KeyError("espeak")


async def is_cancelled_from_inside() -> None:
    raise asyncio.CancelledError


async def goes_on() -> None:
    await asyncio.Event().wait()


async def swallows(cancellations: int) -> None:
    for _ in range(cancellations):
        try:
            await goes_on()
        except asyncio.CancelledError:
            continue
    await goes_on()


def test_tries_grow_rarer_and_never_in_step() -> None:
    whole = [0.5, 1, 2, 4, 8, 16, 30, 30]
    exact, jittered = Backoff(0.5, 30, jitter=False), Backoff(0.5, 30)
    assert [exact.next() for _ in whole] == whole
    assert all(seconds / 2 <= jittered.next() <= seconds for seconds in whole)
    exact.reset()
    assert exact.next() == 0.5


async def test_a_task_that_fails_is_begun_again_and_shown_until_it_works(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "satellite.tasks")
    background, began = Background(), []

    async def work() -> None:
        began.append(asyncio.get_running_loop().time())
        if len(began) <= 8:
            raise ValueError("half a voice")
        await goes_on()

    background.run("refresh", work)
    await asyncio.sleep(20)
    (shown,) = background.status()
    assert (shown.state, shown.message, shown.since_seconds) == ("failing", "ValueError: half a voice", 20)
    await asyncio.sleep(100)
    assert background.status() == (TaskStatus("refresh", "running", "", 8, None),)
    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert len(began) == 9
    assert gaps[0] <= 0.5
    assert 5 <= max(gaps) <= 10
    await background.close()
    assert errors(caplog) == ["refresh failed, and is restarted"]
    assert "ValueError: half a voice" in caplog.text
    assert "refresh works again" in caplog.messages


async def test_another_failure_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    background, left = Background(), [ValueError("one"), ValueError("one"), KeyError("two")]

    async def work() -> None:
        if left:
            raise left.pop(0)

    await asyncio.wait([background.run("watch", work).task])
    assert background.status()[0].failures == 3
    await background.close()
    assert len(errors(caplog)) == 2


async def test_a_task_that_is_cancelled_from_inside_is_begun_again() -> None:
    background, works = Background(), [is_cancelled_from_inside(), asyncio.sleep(0)]
    await asyncio.wait([background.run("watch", lambda: works.pop(0)).task])
    assert works == []
    assert background.status()[0].failures == 1


async def test_a_task_without_which_the_daemon_is_nothing_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    background = Background()
    background.run("load", fails, fatal=True)
    await background.broken.wait()
    assert errors(caplog) == ["load failed: the daemon ends"]


async def test_what_has_stopped_is_forgotten_and_can_be_stopped_again() -> None:
    background = Background()
    one, other = background.run("one", goes_on), background.run("other", goes_on)
    await asyncio.sleep(0)
    for _ in range(2):
        await one.stop()
        assert not other.task.done()
    for _ in range(2):
        await background.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_task_that_swallows_one_cancellation_ends_with_the_next_and_one_that_never_ends_holds_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends, stubborn = begin_task(swallows(1), "ends"), begin_task(swallows(2), "stubborn")
    await asyncio.sleep(0)
    await end_tasks(ends)
    assert (ends.cancelled(), asyncio.get_running_loop().time()) == (True, 2.5)
    await end_tasks(stubborn, seconds=2)
    assert asyncio.get_running_loop().time() == 4.5
    (error,) = errors(caplog)
    assert error.startswith("stubborn does not end, and is abandoned")
    await end_tasks(stubborn)


async def test_what_a_task_fails_of_while_it_ends_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        try:
            await goes_on()
        finally:
            await fails()

    task = begin_task(work(), "read")
    await asyncio.sleep(0)
    await end_tasks(task)
    assert errors(caplog) == ["read failed"]


async def test_what_a_task_had_failed_of_before_is_its_owners_to_take(caplog: pytest.LogCaptureFixture) -> None:
    taken, forgotten = begin_task(fails(), "taken"), begin_task(fails(), "forgotten")
    await asyncio.wait([taken, forgotten])
    assert isinstance(taken.exception(), KeyError)
    await end_tasks(taken, forgotten)
    del forgotten
    gc.collect(1)
    (error,) = errors(caplog)
    assert "never retrieved" in error
    assert "forgotten" in error


async def test_what_a_task_had_failed_of_is_logged_as_its_owner_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def own() -> None:
        task = begin_task(fails(), "read")
        try:
            await goes_on()
        finally:
            await end_tasks(task)

    owner = begin_task(own(), "owner")
    await asyncio.sleep(1)
    await end_tasks(owner)
    assert errors(caplog) == ["read failed"]


@pytest.mark.parametrize(("failure", "logged"), [(ChatError("no model"), []), (KeyError("espeak"), ["ask failed"])])
async def test_an_attempt_that_fails_as_its_caller_is_cancelled_is_logged_like_any_that_is_cut_off(
    failure: Exception, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        callers[0].cancel()
        raise failure

    callers = [begin_task(attempt(work(), "ask", 10), "caller")]
    await asyncio.wait(callers)
    assert callers.pop().cancelled()
    gc.collect(1)
    assert errors(caplog) == logged


async def test_an_attempt_that_is_cancelled_from_inside_is_not_called_slow() -> None:
    assert not isinstance(await attempt(is_cancelled_from_inside(), "ask", 10), TimeoutError)
    assert isinstance(await attempt(goes_on(), "ask", 10), TimeoutError)
