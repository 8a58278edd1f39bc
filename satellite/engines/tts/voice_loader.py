"""Loads a voice of whichever kind its files are."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from satellite.engines.onnx_session import Provider
from satellite.engines.tts.loaded_voice import LoadedVoice, VoiceFile

if TYPE_CHECKING:
    from satellite.engines.tts.kokoro import KokoroNetwork


class VoiceLoader:
    """Loads voices; those of one shared network have it in memory once, for as long as one of them is there."""

    def __init__(self, parts: Path) -> None:
        """Keep what is derived from voices, and measured of them, in the folder `parts`."""
        self._parts = parts
        self._networks: WeakValueDictionary[Path, KokoroNetwork] = WeakValueDictionary()

    def load(self, file: VoiceFile, providers: Sequence[Provider], threads: int) -> LoadedVoice:
        """Load a voice; blocking. Raises `TextToSpeechError`."""
        if file.characters_of is not None:
            from satellite.engines.tts.mms import MmsVoice

            return MmsVoice(file.path, self._parts, providers, threads, file.characters_of)
        if file.network is None:
            from satellite.engines.tts.piper import PiperVoice

            return PiperVoice(file.path, self._parts, providers, threads)
        from satellite.engines.tts.kokoro import KokoroNetwork, KokoroVoice

        network = self._networks.get(file.network)
        if network is None:
            network = KokoroNetwork(file.network, providers, threads)
            self._networks[file.network] = network
        return KokoroVoice(file.path, network, self._parts)
