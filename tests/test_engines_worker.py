"""One thread for each engine: order, bounds, cancellation, and foreign errors that become ours."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from satellite.engines.slot import Slot
from satellite.engines.worker import Worker
from satellite.errors import ModelError, SpeechToTextError, Stage, TextToSpeechError, WakeWordError
from tests.waiting import PATIENCE_SECONDS, until


@asynccontextmanager
async def busy(worker: Worker) -> AsyncIterator[threading.Event]:
    """Keep the thread of `worker` busy until the event is set, or the block ends; close the worker then."""
    release = threading.Event()
    running = asyncio.create_task(worker.run(release.wait, 60))
    await until(lambda: worker.busy_since is not None)
    try:
        yield release
    finally:
        release.set()
        assert await running
        worker.close()


def double(items: Sequence[int]) -> list[int]:
    return [2 * item for item in items]


async def test_calls_run_one_at_a_time_in_order() -> None:
    worker = Worker(Stage.STT)
    threads: list[int] = []

    def call(number: int) -> int:
        threads.append(threading.get_ident())
        return number

    assert await asyncio.gather(*(worker.run(call, n) for n in range(10))) == list(range(10))
    assert len({*threads, threading.get_ident()}) == 2
    assert worker.busy_since is None
    worker.close()


async def test_the_watchdog_sees_that_a_model_is_loaded() -> None:
    worker = Worker(Stage.TTS)
    assert await worker.load(lambda: worker.is_loading)
    assert not await worker.run(lambda: worker.is_loading)
    worker.close()


async def test_what_is_due_first_runs_first_however_much_comes_after_it_was_due() -> None:
    worker = Worker(Stage.TTS)
    ran: list[str] = []
    async with busy(worker) as release:

        async def waiting(**due_seconds: float) -> list[asyncio.Task[None]]:
            calls = [asyncio.create_task(worker.run_due(due, ran.append, name)) for name, due in due_seconds.items()]
            await asyncio.sleep(0)  # all are queued now, and the last of them is due before the time below has passed
            await asyncio.sleep(0.05)
            return calls

        calls = await waiting(last=600, later=300, late=-5, soon=0.01)
        calls += [*await waiting(now=0, never=450), asyncio.create_task(worker.run(ran.append, "plain"))]
        await asyncio.sleep(0)
        calls[5].cancel()
        await asyncio.wait([calls[5]])  # or the thread might come to it first
        release.set()
        await asyncio.gather(*calls, return_exceptions=True)
    assert ran == ["late", "soon", "now", "plain", "later", "last"]


async def test_a_full_queue_is_an_error() -> None:
    worker = Worker(Stage.TTS, queue_size=2)
    async with busy(worker) as release:
        waiting = [asyncio.create_task(worker.run(lambda: 5)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TextToSpeechError, check=lambda error: error.code == "tts-busy"):
            await worker.run(lambda: None)
        release.set()
        assert [*await asyncio.gather(*waiting), await worker.run(lambda: 7)] == [5, 5, 7]


async def test_a_cancelled_call_that_waits_never_runs() -> None:
    worker = Worker(Stage.STT, queue_size=1)
    release, ran = threading.Event(), threading.Event()
    first = asyncio.create_task(worker.run(release.wait, 10))
    second = asyncio.create_task(worker.run(ran.set))
    await until(lambda: worker.busy_since is not None)  # or the thread might pass over the first and begin the second
    first.cancel()
    second.cancel()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    release.set()
    assert await worker.run(lambda: "next") == "next"
    assert not ran.is_set()
    await until(lambda: not worker.pending)
    worker.close()


async def test_foreign_errors_become_the_stages_own() -> None:
    worker = Worker(Stage.STT)
    with pytest.raises(SpeechToTextError, match="division") as caught:
        await worker.run(lambda: 1 / 0)
    assert caught.value.code == "stt-failed"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def ours() -> None:
        raise SpeechToTextError("known", kind="unsupported-language")

    with pytest.raises(SpeechToTextError, check=lambda error: error.code == "stt-unsupported-language"):
        await worker.run(ours)
    worker.close()
    worker.close()
    with pytest.raises(SpeechToTextError, check=lambda error: error.code == "stt-not-ready"):
        await worker.run(lambda: None)


async def test_calls_that_wait_for_the_same_run_as_one() -> None:
    worker = Worker(Stage.WAKE, queue_size=32)
    seen: list[list[int]] = []

    def call(items: Sequence[int]) -> list[int]:
        seen.append(list(items))
        return double(items)

    async with busy(worker) as release:
        tasks = [asyncio.create_task(worker.run_together(call, number)) for number in range(20)]
        other = asyncio.create_task(worker.run(lambda: 7))
        await asyncio.sleep(0)
        assert worker.pending == 22
        tasks[3].cancel()
        await asyncio.wait([tasks[3]])
        release.set()
        results = await asyncio.gather(*tasks[:3], *tasks[4:], other)
    assert results == [*(2 * number for number in range(20) if number != 3), 7]
    assert seen == [[*range(3), *range(4, 17)], [17, 18, 19]]
    assert worker.completed == 21


async def test_a_result_does_not_wait_for_the_next_call() -> None:
    worker = Worker(Stage.TTS)
    finish = threading.Event()
    async with busy(worker) as release:
        calls = (worker.run(lambda: 7), worker.run_together(double, 4), worker.run(lambda: 9))
        quick = [asyncio.create_task(call) for call in calls]
        slow = asyncio.create_task(worker.run(finish.wait, 60))
        await asyncio.sleep(0)
        release.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await asyncio.gather(*quick) == [7, 8, 9]
        assert not slow.done()
        finish.set()
        assert await slow


async def test_a_call_that_fails_does_not_affect_the_others() -> None:
    worker = Worker(Stage.WAKE)

    def inverse(items: Sequence[int]) -> list[float]:
        return [1 / item for item in items]

    async with busy(worker) as release:
        tasks = [asyncio.create_task(worker.run_together(inverse, number)) for number in (1, 0, 4)]
        await asyncio.sleep(0)
        release.set()
        one, failure, quarter = await asyncio.gather(*tasks, return_exceptions=True)
    assert (one, type(failure), quarter) == (1, WakeWordError, 0.25)


def test_one_event_loop_after_another_may_use_it() -> None:
    worker = Worker(Stage.STT)
    release = threading.Event()

    async def leave_running() -> None:
        task = asyncio.create_task(worker.run(release.wait, 60))
        await until(lambda: worker.busy_since is not None)
        task.cancel()

    async def ask() -> int:
        asking = asyncio.create_task(worker.run(lambda: 7))
        await asyncio.sleep(0)
        release.set()
        return await asking

    asyncio.run(leave_running())
    assert asyncio.run(ask()) == 7
    worker.close()


async def test_calls_that_wait_when_it_closes_are_cancelled() -> None:
    worker = Worker(Stage.STT)
    async with busy(worker):
        waiting = asyncio.create_task(worker.run(lambda: None))
        await asyncio.sleep(0)
        worker.close()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)


async def test_a_slot_is_waited_for() -> None:
    slot = Slot(Stage.TTS, "engine")
    assert not slot.ready
    with pytest.raises(TextToSpeechError, match="loading", check=lambda error: error.code == "tts-not-ready"):
        await slot.get(0.01)
    waiting = asyncio.create_task(slot.get(10))
    await asyncio.sleep(0)
    slot.settle()
    assert await waiting == "engine"
    assert slot.ready


async def test_a_failed_slot_says_why() -> None:
    slot = Slot(Stage.STT, "engine")
    slot.settle(ModelError("get it with: satellite models pull stt/tiny.en"))
    assert not slot.ready
    with pytest.raises(SpeechToTextError, match="satellite models pull"):
        await slot.get(10)
