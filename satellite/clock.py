"""The clock by which durations are measured."""

import time


def monotonic() -> float:
    """Return `time.monotonic()`, looked up at each call.

    As a default of an argument or a field, `time.monotonic` itself would stay what it was at the import, whatever the
    clock of a test is.
    """
    return time.monotonic()
