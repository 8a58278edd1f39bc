"""What a device says of itself: to whoever connects, and to the network."""

from dataclasses import dataclass

from zeroconf import ServiceInfo

from tests.doubles.esphome_assistant import AssistantSettings
from tests.doubles.esphome_wire import NO_KEY, Message, pb

_VOICE_PE = "Nabu Casa.Home Assistant Voice PE"


@dataclass(eq=False, kw_only=True)
class Identity(AssistantSettings):
    """Its names, its address and its key; a Voice PE by default."""

    name: str = "kitchen"
    friendly_name: str = "Kitchen"
    mac: str = "20:F8:3B:00:00:01"
    host: str = "127.0.0.1"
    """Where it listens; changed while it is switched off, it is a new address."""

    port: int = 0
    """0 becomes a free one at the first start."""

    project: str = _VOICE_PE
    """What its YAML calls the project, where it is no linux-voice-assistant."""

    key: bytes | None = None
    """Of 32 bytes; `NO_KEY` is a device that has none yet, None one that knows no encryption."""

    has_assistant: bool = True
    shows_timers: bool = True
    """Its YAML says what is done when a timer has finished."""

    dials: bool = False
    """Its YAML has `api: outgoing_connection:`."""

    @property
    def uri(self) -> str:
        return f"esphome://{self.host}:{self.port}"

    @property
    def features(self) -> int:
        """The flags of its voice assistant; 0 without one."""
        timers = 8 if self.shows_timers else 0
        outputs = {"media": timers | 16 | 32, "speaker": timers | 2, "none": 0}
        return (1 | 4 | outputs[self.output] | (64 if self.second_channel else 0)) if self.has_assistant else 0

    def service(self) -> ServiceInfo:
        """Return what it announces by zeroconf."""
        properties = {"mac": self.mac.replace(":", "").lower(), "friendly_name": self.friendly_name}
        properties |= {"version": "2026.10.0", "platform": "HOST" if self.is_lva else "ESP32", "network": "wifi"}
        properties |= {"project_name": self.project, "project_version": "26.6.0"}
        if self.key is not None:
            supported = "api_encryption_supported" if self.key == NO_KEY else "api_encryption"
            properties[supported] = "Noise_NNpsk0_25519_ChaChaPoly_SHA256"
        if self.key == NO_KEY:
            properties["api_provisioning"] = "zero-psk"
        return ServiceInfo(
            "_esphomelib._tcp.local.",
            f"{self.name}._esphomelib._tcp.local.",
            port=self.port,
            properties=properties,
            server=f"{self.name}.local.",
            parsed_addresses=[self.host.partition("%")[0]],
        )

    def info(self) -> Message:
        """Return the answer to a request for its description."""
        return pb.DeviceInfoResponse(
            name=self.name,
            friendly_name=self.friendly_name,
            mac_address=self.mac,
            esphome_version="2026.10.0",
            manufacturer="Espressif",
            model="esp32-s3-devkitc-1",
            project_name="Open Home Foundation.Linux Voice Assistant" if self.is_lva else self.project,
            project_version="1.1.15" if self.is_lva else "26.6.0",
            voice_assistant_feature_flags=self.features,
            api_encryption_supported=self.key is not None,
            api_encryption_provisionable=self.key == NO_KEY,
            api_outgoing_connection_supported=self.dials,
        )
