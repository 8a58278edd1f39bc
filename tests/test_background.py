"""Background tasks: one that fails is logged once, counted, told, and begun again; or ends the daemon."""

import asyncio
import gc
import logging
from itertools import pairwise

import pytest

from satellite.errors import ChatError
from satellite.tasks import Background, attempt, begin_task, end_tasks


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what was logged as an error."""
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.virtual_clock
async def test_a_task_that_fails_is_begun_again_and_told_until_it_works(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "satellite.tasks")
    background, began = Background(), []

    async def work() -> None:
        began.append(asyncio.get_running_loop().time())
        if len(began) <= 8:
            raise ValueError("half a voice")
        await asyncio.Event().wait()

    background.run("refresh", work)
    await asyncio.sleep(20)
    (told,) = background.status()
    assert (told.task, told.state, told.summary) == ("refresh", "failing", "ValueError: half a voice")
    assert told.since_seconds == 20
    await asyncio.sleep(100)
    (told,) = background.status()
    assert (told.state, told.summary, told.failures, told.since_seconds) == ("running", "", 8, None)
    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert len(began) == 9
    assert gaps[0] <= 0.5
    assert 5 <= max(gaps) <= 10
    await background.close()
    (error,) = errors(caplog)
    assert error.exc_info is not None
    assert "refresh" in error.message
    assert "refresh works again" in caplog.messages


@pytest.mark.virtual_clock
async def test_another_failure_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    background, left = Background(), [ValueError("one"), ValueError("one"), KeyError("two")]

    async def work() -> None:
        if left:
            raise left.pop(0)

    task = background.run("watch", work)
    await asyncio.wait([task.task])
    assert background.status()[0].failures == 3
    await background.close()
    assert [str(error.exc_info[1]) for error in errors(caplog) if error.exc_info] == ["one", "'two'"]


@pytest.mark.virtual_clock
async def test_a_task_that_is_cancelled_from_within_is_begun_again() -> None:
    background, times = Background(), 0

    async def work() -> None:
        nonlocal times
        times += 1
        if times == 1:
            raise asyncio.CancelledError

    await asyncio.wait([background.run("watch", work).task])
    assert times == 2
    assert background.status()[0].failures == 1


@pytest.mark.virtual_clock
async def test_a_task_without_which_the_daemon_is_nothing_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    background = Background()

    async def work() -> None:
        raise ValueError("no engines")

    background.run("load", work, fatal=True)
    await background.broken.wait()
    (error,) = errors(caplog)
    assert error.levelno == logging.CRITICAL
    assert "load" in error.message


@pytest.mark.virtual_clock
async def test_what_has_stopped_is_forgotten_and_can_be_stopped_again() -> None:
    background, begun = Background(), 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    one, _other = background.run("one", work), background.run("other", work)
    await asyncio.sleep(0)
    await one.stop()
    await one.stop()
    await background.close()
    await background.close()
    assert begun == 2
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.virtual_clock
async def test_a_task_that_swallows_one_cancellation_ends_with_the_next() -> None:
    swallowed = 0

    async def deaf(times: int) -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > times:
                    raise

    task = begin_task(deaf(1), "deaf")
    await asyncio.sleep(0)
    await end_tasks(task)
    assert task.cancelled()


@pytest.mark.virtual_clock
async def test_one_that_never_ends_holds_nobody(caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = begin_task(stubborn(), "stubborn")
    await asyncio.sleep(0)
    await end_tasks(task, seconds=2)
    assert asyncio.get_running_loop().time() == 2
    release.set()
    await task
    (error,) = errors(caplog)
    assert "stubborn" in error.message


@pytest.mark.virtual_clock
async def test_what_a_task_fails_of_while_it_ends_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("espeak")

    task = begin_task(work(), "read")
    await asyncio.sleep(0)
    await end_tasks(task)
    (error,) = errors(caplog)
    assert "read" in error.message


@pytest.mark.virtual_clock
async def test_what_a_task_had_failed_of_before_is_its_owners_to_take(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise KeyError("espeak")

    taken, forgotten = begin_task(work(), "taken"), begin_task(work(), "forgotten")
    await asyncio.wait([taken, forgotten])
    assert isinstance(taken.exception(), KeyError)
    await end_tasks(taken, forgotten)
    del forgotten
    gc.collect()
    (error,) = errors(caplog)
    assert "never retrieved" in error.message
    assert "forgotten" in error.message


@pytest.mark.virtual_clock
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
    gc.collect()
    assert [record.message for record in errors(caplog)] == logged


@pytest.mark.virtual_clock
async def test_an_attempt_that_is_cancelled_from_inside_is_not_called_slow() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    async def slow() -> None:
        await asyncio.Event().wait()

    assert not isinstance(await attempt(work(), "ask", 10), TimeoutError)
    assert isinstance(await attempt(slow(), "ask", 10), TimeoutError)
