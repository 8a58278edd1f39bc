"""The certificate of the HTTP server, and the names under which this machine can be reached."""

import socket
from collections.abc import Sequence
from functools import partial

from satellite.config.http import HttpSettings
from satellite.config.settings import Config
from satellite.net.tls_certificate import ServerCertificate
from satellite.skills.timers.storage import default_directory

_FILE = "https.pem"


def server_certificate(config: Config) -> ServerCertificate | None:
    """Return what `http.tls` asks for; None for plain HTTP."""
    tls = config.http.tls
    if tls is None:
        return None
    files = None if tls == "auto" else (tls.cert, tls.key)
    own = (config.commands.state_directory or default_directory()) / _FILE
    return ServerCertificate(files, own, partial(_names, config.http))


def _names(settings: HttpSettings) -> Sequence[str]:
    """Return this machine's names and addresses; blocks."""
    from satellite.wire import discovery

    own = socket.gethostname().lower()
    names = [own, f"{own.split('.')[0]}.local", "localhost", "127.0.0.1", "::1", *settings.allowed_hosts]
    addresses = discovery.reachable([settings.host], discovery.interfaces())
    return list(dict.fromkeys(name for name in (*names, *addresses) if name.isascii()))
