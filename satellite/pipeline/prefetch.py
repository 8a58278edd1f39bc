"""Let a generator work ahead of whoever consumes it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from satellite.tasks import begin_task, end_tasks

T = TypeVar("T")


async def ahead(source: AsyncGenerator[T, None], *, size: int) -> AsyncGenerator[T, None]:
    """Yield what `source` yields while it produces up to `size` items more in a task of its own.

    Closing this generator cancels the task and closes `source`; an error of `source` is raised after the items
    that came before it.
    """
    queue: asyncio.Queue[tuple[T] | None] = asyncio.Queue(size)

    async def produce() -> None:
        async with aclosing(source):
            async for item in source:
                await queue.put((item,))

    async def produce_to_end() -> None:
        try:
            await produce()
        except asyncio.CancelledError:
            raise  # nobody takes from the queue any more
        except BaseException:
            await queue.put(None)
            raise
        await queue.put(None)

    producer = begin_task(produce_to_end(), "ahead")
    try:
        while (item := await queue.get()) is not None:
            yield item[0]
        await producer  # raises what `source` raised
    finally:
        await end_tasks(producer)
