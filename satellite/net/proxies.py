"""The proxy that the environment names for an address outside the house.

HTTP libraries left to find it themselves refuse to make any client, even for addresses at home, if one of the
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
"""Held while the environment is read or temporarily changed."""


@contextmanager
def without_proxies() -> Iterator[None]:
    """Hide the proxies of the environment from libraries that make a client when they are imported."""
    with _LOCK:
        kept = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        for name in kept:
            del os.environ[name]
        try:
            yield
        finally:
            os.environ.update(kept)


def proxy_for(url: str) -> str | None:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY name for `url`, None without one.

    Raises `ProxyUnusable`, whose message does not contain the password.
    """
    from urllib.request import getproxies_environment, proxy_bypass  # takes 20 ms to import

    parts = urlsplit(url)
    with _LOCK:
        named, bypassed = getproxies_environment(), proxy_bypass(parts.hostname or "")
    if bypassed:
        return None
    found = [scheme for scheme in (parts.scheme, "all") if named.get(scheme)]
    if not found:
        return None
    variable, proxy = f"{found[0].upper()}_PROXY", named[found[0]]
    # curl and others accept a proxy without a scheme.
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
