"""A plugin of pytest: where a worker of `--dist loadfile` crashes, the test it was running fails, and all others run.

pytest-xdist 3.8 queues again what the worker had finished as well, and may give its successor one test where a worker
waits for two; with either the run may never end (its issues 1323 and 1327). It also runs the crashed test again.
"""

from contextlib import suppress
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling


class _Scheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    def remove_node(self, node: Any) -> str | None:
        units = self.assigned_work.pop(node)
        left = {scope: {test: False for test, done in unit.items() if not done} for scope, unit in units.items()}
        crashed = next((test for unit in left.values() for test in unit), None)
        for scope, unit in left.items():
            unit.pop(crashed, None)
            if unit:
                self.workqueue[scope] = unit
        for other in self.nodes if crashed else ():
            self._reschedule(other)
        return crashed

    def _reschedule(self, node: Any) -> None:
        if node not in self.registered_collections:
            return  # it still collects tests, and is called again then
        super()._reschedule(node)
        while self.workqueue and not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            self._assign_work_unit(node)

    def _assign_work_unit(self, node: Any) -> None:
        with suppress(OSError):  # it has crashed, and what it was assigned is queued again when xdist knows
            super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Replace the scheduler of `--dist loadfile`."""
    return _Scheduling(config, log) if config.getoption("dist") == "loadfile" else None
