"""The frames of ESPHome's native API as a device reads and writes them: plain, or encrypted by Noise."""

import asyncio
from typing import Any, TypeAlias

from aioesphomeapi import api_pb2
from aioesphomeapi.core import MESSAGE_TYPE_TO_PROTO
from cryptography.exceptions import InvalidTag
from noise.connection import NoiseConnection

pb: Any = api_pb2
"""The messages: the library's own, so that it is the oracle of what goes over the wire."""

Message: TypeAlias = Any
"""One of `pb`."""

NO_KEY = bytes(32)
"""The key of a device that has none yet: whoever uses it may set one."""

_NUMBERS = {message: number for number, message in MESSAGE_TYPE_TO_PROTO.items()}
_PROTOCOL = b"Noise_NNpsk0_25519_ChaChaPoly_SHA256"
_PLAIN, _NOISE = b"\0", b"\1"
_LARGEST_FRAME = 65_535


class Refused(ConnectionError):
    """The client speaks otherwise than the device does, or has another key."""


def name_of(message: Message) -> str:
    """Return the message's type, such as `HelloRequest`."""
    return str(message.DESCRIPTOR.name)


class Channel:
    """The device's end of a connection; `open` before anything else."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._noise: NoiseConnection | None = None

    async def open(self, key: bytes | None, name: str, mac: str, *, dialled: bool = False) -> None:
        """Agree on frames, and on keys where there is `key`: None is a device that knows no encryption.

        A device that `dialled` the server says who it is before it is asked. Raises `Refused`.
        """
        hello = b"\1" + name.encode() + b"\0" + mac.replace(":", "").lower().encode() + b"\0"
        if dialled:
            self._frame(hello)
        first = await self._reader.readexactly(1)
        if first == _PLAIN and key in (None, NO_KEY) and not dialled:
            self._started = True
        elif first == _NOISE and key is not None:
            await self._shake_hands(key, b"" if dialled else hello)
        elif key is None:
            self.writer.write(b"\0Bad indicator byte")
            raise Refused("the client encrypts")
        else:
            self._frame(b"\1Bad indicator byte")
            raise Refused("the client does not encrypt")

    async def read(self) -> Message | None:
        """Return the next message, None for one of an unknown type; raises `EOFError`, `Refused` for nonsense."""
        if self._noise is not None:
            await self._expect(_NOISE)
            try:
                packet = self._noise.decrypt(await self._noise_frame())
            except InvalidTag:
                raise Refused("a packet that was not encrypted by the client") from None
            number, packet = int.from_bytes(packet[:2], "big"), packet[4:]
        else:
            if not self._started:
                await self._expect(_PLAIN)
            self._started = False
            size = await self._varint()
            number = await self._varint()
            packet = await self._reader.readexactly(size)
        message = MESSAGE_TYPE_TO_PROTO.get(number)
        return None if message is None else message.FromString(packet)

    def send(self, *messages: Message) -> None:
        for message in messages:
            number, packet = _NUMBERS[type(message)], message.SerializeToString()
            if self._noise is not None:
                head = number.to_bytes(2, "big") + len(packet).to_bytes(2, "big")
                self._frame(self._noise.encrypt(head + packet))
            else:
                self.writer.write(_PLAIN + _varint(len(packet)) + _varint(number) + packet)

    _started = False
    """Whether the first byte of the next plain frame has been read."""

    async def _shake_hands(self, key: bytes, hello: bytes) -> None:
        asked = await self._noise_frame()
        if hello:
            self._frame(hello)
        await self._expect(_NOISE)
        offer = await self._noise_frame()
        noise = NoiseConnection.from_name(_PROTOCOL)
        noise.set_as_responder()
        noise.set_psks(key)
        noise.set_prologue(b"NoiseAPIInit" + len(asked).to_bytes(2, "big") + asked)
        noise.start_handshake()
        try:
            noise.read_message(offer[1:])
        except InvalidTag:
            self._frame(b"\1Handshake MAC failure")
            raise Refused("the client has another key") from None
        self._frame(b"\0" + noise.write_message())
        self._noise = noise

    async def _noise_frame(self) -> bytes:
        size = int.from_bytes(await self._reader.readexactly(2), "big")
        return await self._reader.readexactly(size)

    async def _expect(self, indicator: bytes) -> None:
        if await self._reader.readexactly(1) != indicator:
            raise Refused("a bad indicator byte")

    async def _varint(self) -> int:
        number = 0
        for shift in range(0, 28, 7):
            (byte,) = await self._reader.readexactly(1)
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        if number > _LARGEST_FRAME:
            raise Refused("a frame that is too large")
        return number

    def _frame(self, content: bytes) -> None:
        self.writer.write(_NOISE + len(content).to_bytes(2, "big") + content)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
