"""HTTP clients: whether a server is in the house, how it is reached, and a client that is made at its first use."""

import ipaddress
import logging
import threading
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from satellite.errors import ChatUnavailable, ProxyUnusable
from satellite.net.proxies import proxy_for

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

_MAKING = threading.RLock()

_HOME_SUFFIXES = (".localhost", ".local", ".lan", ".home", ".internal", ".home.arpa")


def is_at_home(url: str) -> bool:
    """Return whether `url` names this host or a private network; a public name is outside, without asking the DNS."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        # A link-local address may carry its interface: fe80::1%eth0.
        return ipaddress.ip_address(host.partition("%")[0]).is_private
    except ValueError:
        # Names without a dot are resolved by the router or the hosts file.
        return "." not in host or host.endswith(_HOME_SUFFIXES)


def is_on_this_host(url: str) -> bool:
    """Return whether `url` names this machine, by a loopback address or name."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def client_settings(url: str) -> dict[str, Any]:
    """Return keyword arguments of an httpx client for `url`: outside the house with the environment's proxy.

    Raises `ChatUnavailable` for a proxy that cannot be used. Loads certificates: call it in a thread.
    """
    import httpx

    try:
        proxy = None if is_at_home(url) else proxy_for(url)
    except ProxyUnusable as error:
        raise ChatUnavailable(f"{shown_url(url)} cannot be reached: {error}", kind="unreachable") from error
    # httpx must not look for proxies itself; of the environment only SSL_CERT_FILE is left to it.
    return {"trust_env": False, "proxy": proxy, "verify": httpx.create_ssl_context(trust_env=True)}


def shown_url(url: str) -> str:
    """Return `url` without user name, password and query, for messages and logs."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")).rstrip("/")


def warn_of_outside(provider: str, url: str) -> None:
    """Warn, once at start-up, that what the household says goes to `url`."""
    _LOGGER.warning("chat: %s is outside this house: %s receives what people say", provider, shown_url(url))


class made_once(cached_property[T]):  # a decorator, named as one
    """`functools.cached_property` with the lock that it lost in Python 3.12: two threads would make two clients."""

    def __get__(self, instance: object, owner: type[Any] | None = None) -> Any:
        """Return the value."""
        with _MAKING:
            return super().__get__(instance, owner)
