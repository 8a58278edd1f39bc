"""Which proxy the environment names for an address outside the house, and whether it can be used.

HTTP libraries look for themselves, and refuse to make any client, also for addresses at home, where one of the
variables names a proxy that they cannot use.
"""

import importlib.util
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from satellite.config.addresses import http_url
from satellite.errors import ProxyUnusable

_SOCKS = ("socks5", "socks5h")

_LOCK = threading.Lock()
"""Held while the environment is read, and while it is another."""


@contextmanager
def without_proxies() -> Iterator[None]:
    """Let the environment name none: for libraries that make a client of their own when they are imported."""
    with _LOCK:
        kept = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        for name in kept:
            del os.environ[name]
        try:
            yield
        finally:
            os.environ.update(kept)


def proxy_for(url: str) -> str | None:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY name for `url`, None for none.

    Raises `ProxyUnusable`, without the password in it.
    """
    from urllib.request import getproxies_environment, proxy_bypass  # 20 ms, for few

    parts = urlsplit(url)
    with _LOCK:
        named, bypassed = getproxies_environment(), proxy_bypass(parts.hostname or "")
    if bypassed:
        return None
    found = [scheme for scheme in (parts.scheme, "all") if named.get(scheme)]
    if not found:
        return None
    variable, proxy = f"{found[0].upper()}_PROXY", named[found[0]]
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    scheme, _, rest = proxy.partition("://")
    shown = f"the proxy {scheme}://{rest.rpartition('@')[2]} of {variable}"
    if scheme.lower() in _SOCKS:
        if importlib.util.find_spec("socksio") is None:
            raise ProxyUnusable(f"{shown} cannot be used: SOCKS needs `pip install 'httpx[socks]'`")
        return proxy
    try:
        return http_url(proxy)
    except ValueError as error:
        raise ProxyUnusable(f"{shown} cannot be used: {error}") from None
