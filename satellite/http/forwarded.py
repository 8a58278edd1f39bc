"""The client of a request that came through reverse proxies."""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

Address = IPv4Address | IPv6Address


class Proxies:
    """Trusts the forwarding headers of proxies in these networks, and of nobody else."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ip_network(network, strict=False) for network in networks]

    def client(self, scope: Scope) -> str:
        """Return the client's address: the last one named by a trusted proxy that is not itself trusted.

        `Forwarded` (RFC 7239) and `X-Forwarded-For` are read.
        """
        peer: str = (scope.get("client") or ("unknown", 0))[0]
        if not self._networks or not self._is_trusted(_address(peer)):
            return peer
        headers = Headers(scope=scope)
        chains = [
            list(reader(headers.getlist(name)))
            for name, reader in (("x-forwarded-for", _listed), ("forwarded", _forwarded))
            if name in headers
        ]
        # A proxy writes one of the headers, and may pass on whatever its client put into the other: when they disagree,
        # neither can be trusted.
        found = {self._farthest(peer, chain) for chain in chains}
        return found.pop() if len(found) == 1 else peer

    def _farthest(self, peer: str, chain: Sequence[str]) -> str:
        """Follow a chain of proxies, starting with the nearest, as far as they are trusted."""
        for name in reversed(chain):
            address = _address(name)
            if address is None:  # obfuscated (RFC 7239, 6.3): the proxy that named it is the last known address
                return peer
            peer = str(address)
            if not self._is_trusted(address):
                return peer
        return peer

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _address(name: str) -> Address | None:
    """Return the address in `1.2.3.4`, `1.2.3.4:5`, `2001:db8::1` or `[2001:db8::1]:5`."""
    name = name.strip().strip('"')
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _listed(values: Sequence[str]) -> Iterator[str]:
    """Yield the addresses of `X-Forwarded-For`."""
    yield from ",".join(values).split(",")


def _forwarded(values: Sequence[str]) -> Iterator[str]:
    """Yield the `for` parameter of each element of `Forwarded`, empty where it has none."""
    for element in ",".join(values).split(","):
        pairs = (pair.partition("=") for pair in element.split(";"))
        yield next((value for name, _, value in pairs if name.strip().lower() == "for"), "")
