"""Home Assistant's access token."""

from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.secrets import Secret, Whereabouts


def find_token(settings: HomeAssistantSettings) -> Secret:
    """Return the token; see `Whereabouts.find`."""
    return whereabouts(settings).find()


def whereabouts(settings: HomeAssistantSettings) -> Whereabouts:
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
