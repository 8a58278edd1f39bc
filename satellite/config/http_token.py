"""The token of the HTTP server."""

from satellite.config.http import HttpSettings
from satellite.config.secrets import Secret, Whereabouts


def find_token(settings: HttpSettings) -> Secret:
    """Return the token; see `Whereabouts.find`."""
    return Whereabouts(
        name="the token",
        kind="token",
        file=settings.token_file,
        file_setting="token_file",
        given=settings.token,
        given_setting="http.token",
        variable="SATELLITE_HTTP_TOKEN",
        credential="http.token",
    ).find()
