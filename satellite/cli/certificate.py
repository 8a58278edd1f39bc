"""`satellite certificate`: by which fingerprint a browser knows the daemon, and a QR code that leads a phone there."""

import argparse
import json
from ipaddress import ip_address

import segno

from satellite.daemon import config_check
from satellite.errors import SatelliteError
from satellite.net.binding import host_and_port
from satellite.net.tls_certificate import CertificateStatus
from satellite.wire import client


async def run(args: argparse.Namespace) -> int:
    """Print the certificate in use; raises `SatelliteError` where the daemon serves plain HTTP."""
    found = (await client.status(args.uri)).get("certificate")
    if found is None:
        raise SatelliteError("the daemon serves no HTTPS; it does with `http: {tls: auto}`", code="no-certificate")
    certificate = CertificateStatus(**{**found, "names": tuple(found["names"])})
    port = config_check.load(args.config).http.port
    addresses = {name: certificate.url(host_and_port(name, port)) for name in certificate.names}
    if args.json:
        print(json.dumps({**found, "addresses": list(addresses.values())}, ensure_ascii=False))
        return 0
    print(f"SHA-256  {certificate.fingerprint}\nuntil    {certificate.ends}\nfor      {', '.join(certificate.names)}")
    if certificate.message:
        print(f"problem  {certificate.message}")
    if address := addresses.get(_reached(certificate.names)):
        print(f"\n{address.partition('#')[0]}")
        segno.make(address).terminal(compact=True)
    return 0


def _reached(names: tuple[str, ...]) -> str:
    """Return the name that a phone reaches: an IPv4 address of a network, else a name that is not of this machine."""
    return next((name for name in names if _is_of_a_network(name)), next((n for n in names if "." in n), ""))


def _is_of_a_network(name: str) -> bool:
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback
