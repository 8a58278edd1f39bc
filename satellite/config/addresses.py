"""Checks of addresses in the configuration: what passes can be connected to, or listened on."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LONGEST_NAME = 253
_LONGEST_SERVICE_NAME = 63
_LONGEST_URL = 2000


def http_url(value: str) -> str:
    """Return an address such as `http://host:port/path` as it is; raises ValueError with what was expected."""
    parts = _split(value, "http://host:port")
    if parts.scheme not in ("http", "https"):
        raise ValueError("expected an address that begins with http:// or https://")
    if "?" in value or "#" in value:
        raise ValueError("expected an address without ? and #")
    return value


def media_url(value: str) -> str:
    """Return an http or https address, which may have a query, as it is; raises ValueError with what was expected."""
    http_url(value.partition("#")[0].partition("?")[0])
    return value


def origin(value: str) -> str:
    """Return a web page's origin as browsers send it; raises ValueError for anything else."""
    parts = urlsplit(http_url(value))
    if "@" in parts.netloc or parts.path.strip("/"):
        raise ValueError("expected nothing but scheme, host and port, as in https://home.example")
    return value.rstrip("/").lower()


def wyoming_uri(value: str) -> str:
    """Return an address such as `tcp://host:port` as it is; raises ValueError with what was expected."""
    parts = _split(value, "tcp://host:port")
    if parts.scheme != "tcp":
        raise ValueError("expected an address such as tcp://host:port")
    if parts.port is None:
        raise ValueError("expected a port after the host, as in tcp://host:port")
    if "@" in parts.netloc or parts.path.strip("/") or "?" in value or "#" in value:
        raise ValueError("expected nothing but host and port, as in tcp://host:port")
    return value


def esphome_uri(value: str) -> str:
    """Return an address such as `esphome://host` or `esphome://host:port` as it is; raises ValueError otherwise."""
    parts = _split(value, "esphome://host")
    if parts.scheme != "esphome":
        raise ValueError("expected an address such as esphome://host")
    if "@" in parts.netloc or parts.path.strip("/") or "?" in value or "#" in value:
        raise ValueError("expected nothing but host and port, as in esphome://host:6053")
    return value


def host(value: str) -> str:
    """Return an address or a name to listen on, without brackets; raises ValueError with what was expected."""
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    _check_host(bare)
    return bare


def ip(value: str) -> str:
    """Return the IP address of one machine as it is; raises ValueError for anything else."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("expected an IP address such as 192.168.1.10") from None
    if address.is_unspecified or address.is_multicast or value == "255.255.255.255":
        raise ValueError("expected the address of one machine")
    return value


def mac(value: str) -> str:
    """Return a MAC address as twelve hexadecimal digits; raises ValueError for anything else."""
    digits = value.replace(":", "").replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{12}", digits):
        raise ValueError("expected a MAC address such as 20:f8:3b:00:00:01, in quotes")
    return digits


def network(value: str) -> str:
    """Return an address or a network as it is; raises ValueError otherwise."""
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("expected an address or a network, such as 203.0.113.7 or 172.16.0.0/12") from None
    return value


def service_name(value: str) -> str:
    """Return a name for zeroconf as it is; raises ValueError for one that DNS labels cannot hold."""
    if (
        not 1 <= len(value.encode()) <= _LONGEST_SERVICE_NAME
        or not value.isprintable()
        or not value.strip()
        or "." in value
    ):
        raise ValueError(f"expected a name of at most {_LONGEST_SERVICE_NAME} bytes, without dots")
    return value


def _split(value: str, example: str) -> SplitResult:
    """Return the parts of an address with a usable scheme, host and port, which urlsplit alone does not check."""
    if len(value) > _LONGEST_URL:
        raise ValueError(f"expected an address of at most {_LONGEST_URL} characters")
    # urlsplit drops line breaks and tabs silently, and browsers take a backslash for a slash.
    if not value.isprintable() or " " in value or "\\" in value:
        raise ValueError(f"expected an address such as {example}, without blanks")
    try:
        parts = urlsplit(value)
        name = parts.hostname
    except ValueError:
        raise ValueError(f"expected an address such as {example}, an IPv6 address in brackets") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or parts.netloc.endswith(":"):  # urlsplit takes "host:" for no port
        raise ValueError("expected a number from 1 to 65535 after the colon, for the port")
    if not parts.scheme or not name:
        raise ValueError(f"expected an address such as {example}")
    # urlsplit accepts an IPv4 address in brackets before Python 3.11.4.
    if "[" in parts.netloc and ":" not in name:
        raise ValueError("expected an IPv6 address between the brackets")
    _check_host(name)
    return parts


def _check_host(name: str) -> None:
    """Raise ValueError for what is neither an IP address nor a host name."""
    if ":" in name:
        if name.count(":") == 1:
            raise ValueError("expected nothing but the name of a machine, or its IP address")
        try:
            ipaddress.IPv6Address(name)
        except ValueError:
            raise ValueError("expected an IPv6 address such as fd00::10") from None
        return
    labels = _ascii(name).removesuffix(".").split(".")
    # By the URL standard a host whose last label is a number is an IPv4 address, also an incomplete one.
    if labels[-1].isdigit():
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            raise ValueError("expected an IP address of four numbers, such as 192.168.1.10") from None
    elif not all(map(_LABEL.fullmatch, labels)) or len(name) > _LONGEST_NAME:
        raise ValueError("expected the name of a machine, or its IP address")


def _ascii(name: str) -> str:
    """Return a name in the form that the DNS uses."""
    if name.isascii():
        return name
    # Imported late: few names need its large tables.
    import idna

    try:
        return idna.encode(name, uts46=True).decode()
    except idna.IDNAError:
        raise ValueError("expected the name of a machine, or its IP address") from None
