"""What a coroutine costs in CPU time, while others run on the same thread."""

import time
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Metered(Generic[T]):
    """Awaits a coroutine and counts the thread's CPU time of its own steps only, in `seconds`."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self.seconds = 0.0

    def __await__(self) -> Generator[Any, Any, T]:
        """Drive the coroutine step by step; what it returns and raises passes through."""
        sent: Any = None
        thrown: BaseException | None = None
        while True:
            began = time.thread_time()
            try:
                awaited = self._coroutine.send(sent) if thrown is None else self._coroutine.throw(thrown)
            except StopIteration as returned:
                return returned.value  # type: ignore[no-any-return]  # what a coroutine of T returns
            finally:
                self.seconds += time.thread_time() - began
            sent = thrown = None
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001  # cancellation included: it belongs to the coroutine
                thrown = error
