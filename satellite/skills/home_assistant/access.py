"""Home Assistant's access token."""

from satellite.config.secrets import Secret, Whereabouts
from satellite.config.settings import HomeAssistant


def find_token(settings: HomeAssistant) -> Secret:
    """Return the token; see `Whereabouts.find`."""
    return whereabouts(settings).find()


def whereabouts(settings: HomeAssistant) -> Whereabouts:
    """Return where the token may be."""
    return Whereabouts(
        name="Home Assistant's token",
        kind="token",
        file=settings.token_file,
        file_setting="token_file",
        given=settings.token,
        given_setting="home_assistant.token",
        variable="HOME_ASSISTANT_TOKEN",
        credential="home_assistant.token",
    )
