"""A bar for people who watch a pull; silent where standard error is not a terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from satellite.models.spec import ModelSpec


class TerminalProgress:
    """Draws one bar a model on standard error; use it as a context and give it to `Store.pull` as the progress."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, spec: ModelSpec, done_bytes: int, total_bytes: int) -> None:
        """Show that `done_bytes` of `total_bytes` are here."""
        task = self._tasks.get(spec.reference)
        if task is None:
            task = self._tasks[spec.reference] = self._bars.add_task(spec.reference, total=total_bytes)
        self._bars.update(task, completed=done_bytes, total=total_bytes)
