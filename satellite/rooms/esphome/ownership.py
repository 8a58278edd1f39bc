"""Whether a device that belongs to the latest client is still ours: linux-voice-assistant tells nobody.

Its microphone goes to the latest connection alone, or to nobody once that has ended, while all others stay open. To
that one it also shows how sensitive it is to a wake word, unasked, whenever its wake words are set.
"""

import asyncio
from collections.abc import Mapping

from aioesphomeapi.client import APIClient
from aioesphomeapi.model import VoiceAssistantFeature

from satellite.rooms.conversation import Conversation
from satellite.rooms.esphome.entities import Entities

_ANSWER_SECONDS = 5.0


async def is_ours(
    client: APIClient, flags: int, entities: Entities, conversation: Conversation, wake_words: Mapping[str, bool]
) -> bool:
    """Return whether the device still hears us, after setting the `wake_words` that it has; True if it cannot be told.

    Nothing is asked while somebody speaks with the room, or something sounds there: its word for "stop" would be lost.
    """
    active = [word for word, is_active in wake_words.items() if is_active]
    busy = conversation.active or conversation.expects_command or conversation.sounding is not None
    if not (flags & VoiceAssistantFeature.VOICE_ASSISTANT and entities.shows_owner and active) or busy:
        return True
    entities.shown_to_us.clear()
    await client.set_voice_assistant_configuration(active)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await entities.shown_to_us.wait()
    except TimeoutError:
        return False
    return True
