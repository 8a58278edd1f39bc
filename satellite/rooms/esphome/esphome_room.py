"""An ESPHome device as a room: it is reached and kept connected, and its state is put into words.

Light: aioesphomeapi is imported when the room is first run.
"""

import asyncio
import base64
import binascii
import logging
import os
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from satellite.backoff import Backoff
from satellite.config.rooms import EsphomeRoomSettings
from satellite.config.secrets import esphome_key
from satellite.errors import ConfigError, DaemonUnreachable, ProtocolError, SatelliteError
from satellite.net.binding import host_and_port
from satellite.rooms.conversation import Conversation
from satellite.rooms.device import RoomContext
from satellite.rooms.esphome.incoming import IncomingDevices
from satellite.rooms.esphome.mdns import SharedMdns
from satellite.rooms.esphome.probe import encrypts
from satellite.rooms.room import BaseRoom, LinkState, RoomStatus, is_heard
from satellite.system.files import exposure
from satellite.system.process import imported
from satellite.tasks import Supervised, end_tasks, first_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioesphomeapi.client import APIClient
    from aioesphomeapi.reconnect_logic import ReconnectLogic

    from satellite.rooms.esphome.esphome_connection import DeviceSession, EsphomeConnection
    from satellite.rooms.esphome.esphome_device import EsphomeDevice

_LOGGER = logging.getLogger(__name__)

_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 30.0
_SET_UP_SECONDS = 10.0
_STEADY_SECONDS = 5.0
"""A device that stays connected for so long is no longer dialled more and more slowly."""

_HELD_SECONDS = 30.0
"""How often a device that another server has is asked whether it is free: it does not say so.

Firmware refuses each time, with two lines in its log, and its owner does not notice.
"""

_OWNED_SECONDS = 120.0
"""How often a device that belongs to the latest client is asked whether it is ours; more rarely after it was not."""

_RARELY_OWNED_SECONDS = 3600.0

_KEY_BYTES = 32


class LinkTrouble(SatelliteError):
    """Why a device cannot be a room at the moment, and the state that this is."""

    def __init__(self, state: LinkState, message: str) -> None:
        super().__init__(message, code="room-unreachable")
        self.state = state


class EsphomeRoom(BaseRoom):
    """One device: `run` it for as long as the daemon serves."""

    settings: EsphomeRoomSettings

    def __init__(
        self,
        settings: EsphomeRoomSettings,
        context: RoomContext,
        incoming: IncomingDevices | None = None,
        mdns: SharedMdns | None = None,
    ) -> None:
        """Drive the device of `settings`; where these name its `mac`, it may dial `incoming`. Names need `mdns`."""
        super().__init__(settings, settings.uri, "being dialled")
        self._context = context
        self._incoming = incoming
        self._mdns = mdns or SharedMdns()
        self._device: EsphomeDevice | None = None
        self._was_connected = self._warned = False
        self._backoff = Backoff(_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)
        self._asks = Backoff(_OWNED_SECONDS, _RARELY_OWNED_SECONDS, jitter=False)

    @property
    def current(self) -> Conversation | None:
        """Return the conversation that is held there; None while the device is not connected."""
        return None if self._device is None else self._device.conversation

    async def run(self) -> None:
        """Keep the device connected until cancelled; then let it go, so that another server may have it."""
        while True:
            try:
                await self._keep()
            except LinkTrouble as trouble:
                self.become(trouble.state, str(trouble))
            except ProtocolError as error:
                self.become(LinkState.NO_SATELLITE, f"{error}; is the port right?")
            except SatelliteError as error:
                self.become(LinkState.OFF, f"{error}; is it switched on?")
            await asyncio.sleep(self._backoff.next())

    def status(self) -> RoomStatus:
        """Return its present state, with the wake words of the device."""
        return replace(super().status(), wake_words={} if self._device is None else dict(self._device.wake_words))

    def _doing(self) -> str:
        return "" if self._device is None else self._device.conversation.activity

    def _details(self) -> str:
        if self._device is None:
            return self.summary
        bare = self.capabilities.speaker and not is_heard(self)
        limit = "it plays nothing but answers, since it has no media player" if bare else ""
        return "; ".join(filter(None, (self.summary, limit, self._device.trouble)))

    async def _keep(self) -> None:
        """Connect, and serve the device again and again; raises what makes it necessary to begin from the start."""
        key = await asyncio.to_thread(self._key)
        host, port = self.settings.address
        module = await imported("satellite.rooms.esphome.esphome_connection")
        accept = self._accepting(key)
        connection: EsphomeConnection
        async with AsyncExitStack() as stack:
            mdns = await stack.enter_async_context(self._mdns.used(host))
            if accept is None:
                await self._check_form(await module.addresses(host, port, mdns), port, key)
            connection = await stack.enter_async_context(module.EsphomeConnection(host, port, key, accept, mdns))
            while True:
                change = await connection.next()
                if not isinstance(change, Exception):
                    await self._serve(connection, change)
                    change.served.set()
                elif module.is_wrong_key(change):
                    raise LinkTrouble(LinkState.NO_KEY, self._refused_key())
                elif module.is_misunderstanding(change):
                    # Another firmware may be there: look again.
                    raise LinkTrouble(LinkState.OFF, "what it says cannot be understood; it is dialled again")
                else:
                    where = host_and_port(host, port)
                    self.become(LinkState.OFF, f"{where} cannot be reached; is it switched on?")

    def _accepting(self, key: str) -> "Callable[[ReconnectLogic], Callable[[], None]] | None":
        """Return what accepts the connections of a device that may dial the daemon; None where it may not."""
        incoming, mac = self._incoming, self.settings.mac
        if incoming is None or mac is None:
            return None
        if not key:  # without one, anybody could be the device
            source = esphome_key(self.settings).find().source
            raise LinkTrouble(
                LinkState.NO_KEY, f"a device that dials the daemon needs a key, and there is none: {source}"
            )
        return lambda logic: incoming.accept(mac, logic)

    def _key(self) -> str:
        """Return the device's key, empty where there is none; blocks.

        A file that others can read is warned about, and not refused as by ssh: that would silence the room.
        """
        file = self.settings.key_file
        if file is not None and not self._warned and (seen := exposure(file, os.geteuid())):
            self._warned = True
            name = self.settings.name
            _LOGGER.warning("room %s: the key in %s is no secret: %s", name, file, seen, extra={"room": name})
        try:
            secret = esphome_key(self.settings).find()
            if secret.value and len(base64.b64decode(secret.value, validate=True)) != _KEY_BYTES:
                raise ValueError
        except ConfigError as error:
            raise LinkTrouble(LinkState.NO_KEY, str(error)) from error
        except (ValueError, binascii.Error):
            reason = f"what {secret.source} holds is no key of ESPHome, which has 44 characters and ends with ="
            raise LinkTrouble(LinkState.NO_KEY, reason) from None
        return secret.value

    async def _check_form(self, addresses: list[str], port: int, key: str) -> None:
        """Raise `LinkTrouble` where the device encrypts and there is no key, or the other way round."""
        for address in addresses[:-1]:
            with suppress(DaemonUnreachable):
                encrypted = await encrypts(address, port)
                break
        else:
            encrypted = await encrypts(addresses[-1], port)
        if encrypted and not key:
            raise LinkTrouble(
                LinkState.NO_KEY, f"it encrypts, and there is no key: {esphome_key(self.settings).find().source}"
            )
        if key and not encrypted:
            # Without encryption anybody could pretend to be the device.
            raise LinkTrouble(
                LinkState.NO_KEY, "it does not encrypt, though it has a key here: remove that, or set it on the device"
            )

    def _refused_key(self) -> str:
        source = esphome_key(self.settings).find_or_explain().source
        return f"it refuses the key from {source}; the right one is in its YAML (api: encryption:) or its old server"

    async def _serve(self, connection: "EsphomeConnection", session: "DeviceSession") -> None:
        """Be the device's server until the connection is lost."""
        began, background, name = time.monotonic(), self._context.stages.background, self.settings.name
        module = await imported("satellite.rooms.esphome.esphome_device")
        tasks: list[Supervised] = []
        device: EsphomeDevice | None = None
        try:
            async with asyncio.timeout(_SET_UP_SECONDS):
                device = await self._introduced(module, connection.client, session.address)
                tasks.append(background.run(f"hear {name}", device.pump))
                await self._claim(device)
            if (ringing := device.conversation.ringing) is not None:
                tasks.append(background.run(f"timers {name}", ringing.run))
            await first_of(f"serve {name}", session.lost.wait(), device.failed.wait(), self._keep_claimed(device))
        except module.ERRORS as error:
            reason = "it has hung up" if session.lost.is_set() else f"it is gone: {error}"
            raise LinkTrouble(LinkState.OFF, f"{reason}; it is dialled again") from error
        finally:
            self._device = None
            if self.state in (LinkState.CONNECTED, LinkState.HELD):
                # Else it was let go, or what failed is logged.
                self.become(LinkState.OFF, "gone; it is dialled again", log=session.lost.is_set())
            for task in tasks:  # before anything is awaited: this room may be cancelled meanwhile
                task.task.cancel()
            if device is not None:
                await device.close()
            await end_tasks(*(task.task for task in tasks))
        if device.left:
            self._backoff.reset()
            raise LinkTrouble(LinkState.OFF, "it was left for a moment, which ends the ring of its timer")
        if time.monotonic() - began < _STEADY_SECONDS or not session.lost.is_set():
            raise LinkTrouble(LinkState.OFF, "it has hung up; it is dialled again")
        self._backoff.reset()

    async def _introduced(self, module: Any, client: "APIClient", address: str) -> "EsphomeDevice":
        """Return the device, after it has said what it is and what it has."""
        info, entities, _ = await client.device_info_and_list_entities()
        assert client.api_version is not None
        flags = info.voice_assistant_feature_flags_compat(client.api_version)
        if not flags:
            raise LinkTrouble(
                LinkState.NO_SATELLITE, "it is an ESPHome device without voice_assistant: in its firmware"
            )
        device: EsphomeDevice = module.EsphomeDevice(
            client,
            address,
            flags,
            entities,
            self.settings,
            self._context,
            self.modes,
            info.project_name,
        )
        client.subscribe_states(device.entities.take)
        return device

    async def _claim(self, device: "EsphomeDevice") -> None:
        """Subscribe to the device's voice assistant, and find out whether it is ours."""
        device.subscribe()
        if not await device.choose_wake_words() and self.settings.wake_words != ():
            self.become(
                LinkState.HELD,
                "it belongs to another server, such as Home Assistant: disable its Assist satellite there; "
                "if it has no wake words, configure wake_words: []",
            )
            return
        await self._welcome(device)

    async def _welcome(self, device: "EsphomeDevice") -> None:
        self._device = device
        self.capabilities = device.capabilities
        self.reconnections += self._was_connected
        self._was_connected = True
        self.become(LinkState.CONNECTED, "connected")
        await device.restore()

    async def _keep_claimed(self, device: "EsphomeDevice") -> None:
        """Ask a device that another server has now and then, until it is free; then, whether it is ours.

        Raises `LinkTrouble` where it is not any more.
        """
        while self.state is LinkState.HELD:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HELD_SECONDS):
                    await device.asked.wait()
            if device.asked.is_set():
                await self._welcome(device)
            else:
                await self._claim(device)
        while True:
            await asyncio.sleep(self._asks.next())
            if not await device.is_ours():
                self._backoff.reset()
                reason = "another client has connected to it since, or its microphone fails"
                raise LinkTrouble(LinkState.OFF, f"nothing is heard from it: {reason}; it is dialled again")
            self._asks.reset()
