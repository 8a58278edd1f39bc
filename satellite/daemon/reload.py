"""Which changes of the configuration a running daemon can apply, and which need a restart."""

from collections.abc import Iterator
from typing import Any

from satellite.config.base import Settings
from satellite.config.consistency import dotted
from satellite.config.settings import Config
from satellite.daemon.config_check import without_files
from satellite.errors import ConfigError

_LIVE = ("log_level", "rooms", "hub", "endpoint", "phrases", "vad", "deadlines")
_FIXED = ("deadlines.chat_first_token_seconds", "hub.media_port", "hub.incoming_port")
"""Settings of these sections that something is built with."""


def merge(running: Config, wanted: Config) -> tuple[Config, list[str]]:
    """Return `running` with what of `wanted` can be applied at once, and the keys that need a restart.

    Raises `ConfigError` when the part that can be applied contradicts the part that cannot.
    """
    update: dict[str, Any] = {}
    for name in _LIVE:
        old, new = getattr(running, name), getattr(wanted, name)
        if isinstance(old, Settings):
            fixed = {key: getattr(old, key) for key in type(old).model_fields if f"{name}.{key}" in _FIXED}
            new = new.model_copy(update=fixed)
        update[name] = new
    merged = running.model_copy(update=update)
    left = list(_differences(merged, wanted))
    for where, problem in without_files(merged):
        raise ConfigError(f"{dotted(where)}: {problem}; that needs a restart, since {', '.join(left)} changed as well")
    return merged, left


def _differences(one: Settings, other: Settings, prefix: str = "") -> Iterator[str]:
    """Yield the keys in which two sections of the same kind differ."""
    for key in type(one).model_fields:
        mine, theirs = getattr(one, key), getattr(other, key)
        if mine == theirs:
            continue
        if isinstance(mine, Settings) and type(mine) is type(theirs):
            yield from _differences(mine, theirs, f"{prefix}{key}.")
        else:
            yield prefix + key
