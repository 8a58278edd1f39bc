"""Link-local addresses, which mean nothing without their interface: who is reached there fetches from another address.

URLs have no place for an interface that clients agree on, so a peer is told another address of this machine on its
link: IPv4 first, which every device has.
"""

from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

import ifaddr

_IPV6_PREFIX = 64
"""Of every link with hosts (RFC 4291, section 2.5.1); DHCPv6 hands out single addresses of it."""


def is_link_local(address: str) -> bool:
    """Return whether an IPv6 address, with or without `%interface`, is link-local; IPv4 has routes for such."""
    return ":" in address and ip_address(address.partition("%")[0]).is_link_local


def on_link(peer: str) -> IPv4Interface | IPv6Interface | None:
    """Return this machine's address on the link of `peer`, `fe80::…` or `fe80::…%interface`, with the link's network.

    None where it has none but link-local ones, or where no interface is named and several could be meant.
    """
    scope = peer.partition("%")[2]
    links = [
        adapter
        for adapter in ifaddr.get_adapters()
        if (scope in (adapter.name, str(adapter.index)) if scope else any(_has_peers(ip) for ip in adapter.ips))
    ]
    if len(links) != 1:
        return None
    usable = [
        ip_interface(f"{ip.ip if isinstance(ip.ip, str) else ip.ip[0]}/{ip.network_prefix}")
        for ip in sorted(links[0].ips, key=lambda ip: ip.is_IPv6)
        if not _has_peers(ip)
    ]
    if not usable:
        return None
    best = usable[0]
    prefix = min(best.network.prefixlen, _IPV6_PREFIX) if best.version == 6 else best.network.prefixlen
    return ip_interface(f"{best.ip}/{prefix}")


def _has_peers(address: ifaddr.IP) -> bool:
    return isinstance(address.ip, tuple) and is_link_local(address.ip[0])
