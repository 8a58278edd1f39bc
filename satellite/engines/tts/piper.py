"""A Piper voice in memory: text to phonemes by piper-tts, phonemes to samples by its VITS network."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from satellite.config.settings import TtsSettings
from satellite.engines.onnx_session import Provider, model_errors
from satellite.engines.tts.espeak import piper_voice
from satellite.engines.tts.loaded_voice import CALIBRATION, given
from satellite.engines.tts.vits import Array, Inputs, Samples
from satellite.engines.tts.vits_synthesis import VitsSynthesis
from satellite.engines.tts.windows import Timeline
from satellite.errors import TextToSpeechError


class PiperVoice:
    """One voice with all its speakers (`LoadedVoice`)."""

    speaks_sentences = False

    def __init__(self, file: Path, parts: Path, providers: Sequence[Provider], threads: int) -> None:
        """Load the .onnx `file` with its .json; its parts are kept in the folder `parts`.

        Raises `TextToSpeechError`.
        """
        from piper.config import PiperConfig

        self.name = file.stem
        self.calibration = CALIBRATION
        try:
            self.config = PiperConfig.from_dict(json.loads(Path(f"{file}.json").read_text(encoding="utf-8")))
            self.rate: int = self.config.sample_rate
            self.speakers: Mapping[str, int] = self.config.speaker_id_map
            self._piper = piper_voice(self.config, file.parent)
            self.vits = VitsSynthesis(
                file, parts, providers, threads, rate=self.rate, calibration=self._calibration_inputs
            )
        except model_errors() as error:
            raise TextToSpeechError(f"voice {self.name} cannot be loaded: {error}", kind="not-ready") from error
        self.device, self.digest, self.measurements = self.vits.device, self.vits.digest, self.vits.measurements

    def speak(self, text: str, settings: TtsSettings, speaker_id: int | None, timeline: Timeline) -> Iterator[Samples]:
        """Yield the samples of `text`, window by window (`LoadedVoice`)."""
        for inputs in self.sentences(text, settings, speaker_id):
            yield from self.vits.windows(inputs, timeline)

    def sentences(self, text: str, settings: TtsSettings, speaker_id: int | None) -> Iterator[Inputs]:
        """Yield the network's inputs for `text`, sentence by sentence."""
        scales = self.scales(settings)
        speaker = given(speaker_id, self.config.default_speaker_id)
        for phonemes in self._piper.phonemize(text):
            if phonemes:
                yield self._inputs(self._piper.phonemes_to_ids(phonemes), scales, speaker)

    def scales(self, settings: TtsSettings) -> tuple[float, float, float]:
        """Return the scales of noise, length and noise of length: configured, or the voice's own."""
        return (
            given(settings.noise_scale, self.config.noise_scale),
            given(settings.length_scale, self.config.length_scale),
            given(settings.noise_w_scale, self.config.noise_w_scale),
        )

    def length_scale(self, settings: TtsSettings) -> float:
        """Return the pace, above 1 is slower (`LoadedVoice`)."""
        return self.scales(settings)[1]

    def _calibration_inputs(self) -> tuple[Inputs, Inputs]:
        """Return inputs of some seconds, and of half as much."""
        config = self.config
        scales = (config.noise_scale, config.length_scale, config.noise_w_scale)
        ids = [
            number
            for phonemes in self._piper.phonemize(CALIBRATION)
            for number in self._piper.phonemes_to_ids(phonemes)
        ]
        speaker = config.default_speaker_id
        return self._inputs(ids, scales, speaker), self._inputs(ids[: len(ids) // 2], scales, speaker)

    def _inputs(self, ids: Sequence[int], scales: tuple[float, float, float], speaker: int) -> Inputs:
        inputs: dict[str, Array] = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array(scales, np.float32),
        }
        return inputs | {"sid": np.array([speaker], np.int64)} if self.config.num_speakers > 1 else inputs
