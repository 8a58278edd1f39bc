"""Where a chat server is: in the house or outside it."""

import ipaddress
import logging
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

_LOGGER = logging.getLogger(__name__)

NO_PROXY: Mapping[str, None] = {"all://": None, "http://": None, "https://": None}
"""Mounts of an HTTP client that overrule HTTP_PROXY and its like: no proxy has a way into the house."""

_HOME_SUFFIXES = (".localhost", ".local", ".lan", ".home", ".internal", ".home.arpa")


def is_at_home(url: str) -> bool:
    """Tell whether `url` names this host or a private network; a public name counts as outside, without asking DNS."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_private
    except ValueError:
        return "." not in host or host.endswith(_HOME_SUFFIXES)


def shown(url: str) -> str:
    """Return `url` for messages and logs: without user name, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")).rstrip("/")


def warn_of_outside(provider: str, url: str) -> None:
    """Say, once, at start-up, that the household's words go to `url`."""
    _LOGGER.warning("chat: %s is outside this house: %s receives what people say", provider, shown(url))
