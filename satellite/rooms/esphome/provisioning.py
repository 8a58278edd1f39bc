"""Whether an ESPHome device can become a room, and the encryption key that it is given for it."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aioesphomeapi.client import APIClient
from aioesphomeapi.core import (
    ZERO_NOISE_PSK,
    APIConnectionError,
    InvalidEncryptionKeyAPIError,
    RequiresEncryptionAPIError,
)
from aioesphomeapi.model import VoiceAssistantAudioSettings, VoiceAssistantFeature

from satellite.errors import DaemonUnreachable, ProtocolError, SatelliteError, shown
from satellite.rooms.candidates import Candidate, CandidateState
from satellite.rooms.esphome.probe import LINUX_VOICE_ASSISTANT, encrypts
from satellite.wire.browsing import FoundDevice

_CONNECT_SECONDS = 8.0
_CONFIGURATION_SECONDS = 3.0
_ACTIVATION_SECONDS = 20.0
"""How long a device may take until it uses a new key; firmware closes its connections 0.1 s after it has stored it."""

_RETRY_SECONDS = 0.5
_KEY_BYTES = 32
_HELD_REMEDY = (
    "belongs to another server: in Home Assistant, Settings → Devices & services → ESPHome, disable the device's "
    "Assist satellite entity, or delete the device"
)

_TAKEN_REMEDY = (
    "does not encrypt, and belongs to the latest client, which is this machine now; if Home Assistant is to "
    "keep it, reload its entry there: Settings → Devices & services → ESPHome"
)


def new_key() -> str:
    """Return a new key in base64, as devices take it."""
    return base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def checked_key(text: str) -> str:
    """Return a key that somebody has typed; raises `SatelliteError`, without repeating it, for what cannot be one."""
    key = text.strip()
    try:
        valid = len(base64.b64decode(key, validate=True)) == _KEY_BYTES and key != ZERO_NOISE_PSK
    except ValueError:
        valid = False
    if not valid:
        reason = "a key has 44 characters (32 bytes in base64), as in the device's YAML under api: encryption: key:"
        raise SatelliteError(f"this is not the key of an ESPHome device: {reason}", code="key-invalid")
    return key


async def examine_esphome(device: FoundDevice, keys: Sequence[str]) -> Candidate:
    """Return whether a device can become a room; one of `keys` may be its own.

    It is subscribed to for a moment, which is how a device shows that it has another server.
    """
    try:
        for key in await _keys_to_try(device, keys):
            try:
                async with connected(device, key) as client:
                    return await _examined(device, client, key)
            except (InvalidEncryptionKeyAPIError, RequiresEncryptionAPIError):
                continue
    except ProtocolError:
        return Candidate(device, CandidateState.NO_SATELLITE, "is no ESPHome device; is the port right?")
    except (DaemonUnreachable, APIConnectionError) as error:
        return Candidate(device, CandidateState.OFF, f"{shown(error)}; is it switched on?")
    remedy = "take it from the device's YAML or from Home Assistant (--key-file), or reset the device"
    return Candidate(device, CandidateState.LOCKED, f"has an encryption key that is not known here: {remedy}")


async def provision(candidate: Candidate, key: str) -> None:
    """Give the device of `candidate`, which has none, the encryption `key`; returns when it uses it.

    Raises `SatelliteError`: `key-refused` where it surely goes on without a key, otherwise `key-unconfirmed`.
    """
    device = candidate.device
    try:
        async with connected(device, candidate.key) as client:
            taken = await client.noise_encryption_set_key(key.encode())
    except APIConnectionError as error:
        reason = f"{device.name} has perhaps taken the key: {shown(error)}"
        raise SatelliteError(reason, code="key-unconfirmed") from error
    if not taken:
        remedy = "restart the device, which accepts keys only for a while, and try again"
        raise SatelliteError(f"{device.name} refuses the key; {remedy}", code="key-refused")
    await _until_usable(device, key)


async def _until_usable(device: FoundDevice, key: str) -> None:
    failure: Exception | None = None
    try:
        async with asyncio.timeout(_ACTIVATION_SECONDS):
            while True:
                try:
                    async with connected(device, key):
                        return
                except (APIConnectionError, DaemonUnreachable) as error:
                    failure = error
                await asyncio.sleep(_RETRY_SECONDS)
    except TimeoutError:
        reason = shown(failure or "no answer")
        raise SatelliteError(
            f"{device.name} took the key, but does not use it: {reason}", code="key-unconfirmed"
        ) from None


@asynccontextmanager
async def connected(device: FoundDevice, key: str) -> AsyncIterator[APIClient]:
    """Connect to a device for the length of the `with`; raises `APIConnectionError`, `DaemonUnreachable`."""
    client = APIClient(
        device.addresses[0], device.port, None, noise_psk=key or None, client_info="satellite", provide_time=False
    )
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await client.connect(login=True, log_errors=False)
    except TimeoutError as error:
        client.force_disconnect()
        raise DaemonUnreachable(f"{device.uri} does not answer", code="room-unreachable") from error
    try:
        yield client
    finally:
        client.force_disconnect()


async def _keys_to_try(device: FoundDevice, keys: Sequence[str]) -> Sequence[str]:
    """Return the keys with which the device may be reached; the empty one means plain text."""
    return [*keys, ZERO_NOISE_PSK] if await encrypts(device.addresses[0], device.port) else [""]


async def _examined(device: FoundDevice, client: APIClient, key: str) -> Candidate:
    info = await client.device_info()
    device = device.called(info.name, info.friendly_name)
    assert client.api_version is not None
    flags = info.voice_assistant_feature_flags_compat(client.api_version)
    if not flags & VoiceAssistantFeature.VOICE_ASSISTANT:
        return Candidate(device, CandidateState.NO_SATELLITE, "is an ESPHome device without a voice assistant")
    wakes = await _has_wake_words(client)
    # Devices that play announcements have wake words of their own; a simple one, such as an Atom Echo, may have none.
    if not wakes and flags & VoiceAssistantFeature.ANNOUNCE:
        return Candidate(device, CandidateState.HELD, _HELD_REMEDY)
    dials_as = info.mac_address.lower() if info.api_outgoing_connection_supported else ""
    if key == ZERO_NOISE_PSK or (not key and info.api_encryption_supported):
        message = "is given an encryption key when it is adopted"
        return Candidate(device, CandidateState.NO_KEY, message, key, wakes, dials_as)
    message = _TAKEN_REMEDY if info.project_name == LINUX_VOICE_ASSISTANT else "" if key else "does not encrypt"
    return Candidate(device, CandidateState.FREE, message, key, wakes, dials_as)


async def _has_wake_words(client: APIClient) -> bool:
    """Return whether the device has wake words for us: where another server is subscribed, it shows none."""

    async def start(_conversation: str, _flags: int, _audio: VoiceAssistantAudioSettings, _word: str | None) -> None:
        return None

    async def stop(_aborted: bool) -> None:
        pass

    unsubscribe = client.subscribe_voice_assistant(handle_start=start, handle_stop=stop)
    try:
        configuration = await client.get_voice_assistant_configuration(_CONFIGURATION_SECONDS)
    except APIConnectionError:  # firmware before 2024.9 has none
        return True
    finally:
        unsubscribe()
    return bool(configuration.available_wake_words)
