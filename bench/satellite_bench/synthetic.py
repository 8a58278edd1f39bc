"""A corpus without recordings: commands and questions that a voice says once, and then keeps.

It is synthetic, and every report says so: one voice that is clearer than people are, and no room around it.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from satellite.audio.corpus import Corpus, read_corpus
from satellite.audio.pcm import CANONICAL, AudioFormat, Converter, to_float, write_wav

NAME = "synthetic: one voice, every second clip with noise"

_RECIPE = 2
"""Goes up when anything below changes, so that an older corpus is not taken for this one."""

_SEED = 20_26
_Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

_LEAD_SECONDS = 0.3
_TAIL_SECONDS = 0.2

PHRASES = (
    "Turn on the kitchen light.",
    "Turn off the lights in the living room.",
    "Set the bedroom lamp to warm white.",
    "Dim the lights in the hallway.",
    "Make the office lights brighter.",
    "Set the kitchen lights to green.",
    "Turn off everything downstairs.",
    "Switch on the fan in the bathroom.",
    "Open the blinds in the bedroom.",
    "Close the curtains in the dining room.",
    "Lock the front door.",
    "Is the garage door open?",
    "Did anybody leave the back door unlocked?",
    "What is the temperature outside?",
    "How warm is it in the nursery?",
    "Set the heating to comfort mode.",
    "Turn the heating down tonight.",
    "What is the humidity in the basement?",
    "Will it rain tomorrow morning?",
    "What is the weather like this weekend?",
    "What time is it?",
    "What day is it today?",
    "Set a timer for the pasta.",
    "Cancel the timer.",
    "How much time is left on the oven timer?",
    "Wake me up at sunrise.",
    "Remind me to water the plants this evening.",
    "Add milk and bread to the shopping list.",
    "What is on my shopping list?",
    "Remove onions from the shopping list.",
    "Play some jazz in the kitchen.",
    "Pause the music.",
    "Skip this song.",
    "Turn the volume up a little.",
    "Stop the television.",
    "Resume the movie in the living room.",
    "Start the vacuum cleaner.",
    "Send the robot back to its dock.",
    "Is the washing machine finished?",
    "How much power is the house using right now?",
    "How full is the battery of the car?",
    "Start charging the car after midnight.",
    "Arm the alarm when I leave.",
    "Turn on the sprinklers in the garden.",
    "Who is at the front door?",
    "Show me the camera in the driveway.",
    "Activate movie night.",
    "Run the good morning scene.",
    "Never mind.",
    "Stop.",
    "What is the capital of France?",
    "Who wrote Romeo and Juliet?",
    "How far away is the moon?",
    "How do you say thank you in Italian?",
    "What is the boiling point of water?",
    "Tell me a joke.",
    "Why is the sky blue?",
    "How long should I boil an egg?",
    "What can I cook with rice and tomatoes?",
    "Good night, please turn off all the lights and lock the doors.",
)


FRENCH_PHRASES = (
    "Allume la lumière de la cuisine.",
    "Éteins les lumières du salon.",
    "Mets la lampe de la chambre en blanc chaud.",
    "Baisse la lumière du couloir.",
    "Ouvre les volets de la chambre.",
    "Ferme les rideaux de la salle à manger.",
    "Est-ce que la porte du garage est ouverte ?",
    "Quelle est la température dehors ?",
    "Mets le chauffage à vingt degrés.",
    "Est-ce qu'il va pleuvoir demain matin ?",
    "Quelle heure est-il ?",
    "Quel jour sommes-nous ?",
    "Mets un minuteur pour les pâtes.",
    "Combien de temps reste-t-il sur le minuteur du four ?",
    "Rappelle-moi d'arroser les plantes ce soir.",
    "Ajoute du lait et du pain à la liste de courses.",
    "Mets du jazz dans la cuisine.",
    "Arrête la musique.",
    "Monte un peu le son.",
    "Lance l'aspirateur.",
    "Est-ce que la machine à laver a fini ?",
    "Quelle est la capitale de l'Italie ?",
    "Qui a écrit Les Misérables ?",
    "Pourquoi le ciel est-il bleu ?",
    "Combien de temps faut-il pour cuire un œuf ?",
    "Qu'est-ce que je peux cuisiner avec du riz et des tomates ?",
    "Raconte-moi une blague.",
    "Ouvre le portail, s'il te plaît.",
    "Bonne nuit, éteins toutes les lumières et ferme la porte à clé.",
    "La chaîne suivante.",
)


def cached_corpus(folder: Path, voice: Path, phrases: Sequence[str]) -> Corpus:
    """Return the corpus kept in `folder`, spoken by the voice in the .onnx file `voice` if it is not there yet."""
    return kept(folder, voice.stem, phrases) or keep(folder, voice.stem, phrases, _spoken(voice, phrases))


def kept(folder: Path, voice: str, phrases: Sequence[str]) -> Corpus | None:
    """Return the corpus kept in `folder` as `voice` said it; None where it never did."""
    target = _place(folder, voice, phrases)
    return read_corpus(target, NAME) if target.is_dir() else None


def keep(folder: Path, voice: str, phrases: Sequence[str], spoken: Iterable[bytes]) -> Corpus:
    """Keep and return the corpus of what was `spoken`, each phrase in canonical PCM.

    Each gets a loudness of its own and, every second one, noise.
    """
    target = _place(folder, voice, phrases)
    folder.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=folder, prefix=".synthetic-"))
    chance = np.random.default_rng(_SEED)
    try:
        for index, (phrase, pcm) in enumerate(zip(phrases, spoken, strict=True)):
            stem = f"{index:02d}-{'-'.join(phrase.lower().rstrip('.?').replace(',', '').split()[:6])}"
            write_wav(making / f"{stem}.wav", _recorded(to_float(pcm), chance, noisy=index % 2 == 1), CANONICAL)
            (making / f"{stem}.txt").write_text(phrase + "\n", encoding="utf-8")
        making.rename(target)
    except OSError:
        if not target.is_dir():  # else another process made it meanwhile
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return read_corpus(target, NAME)


def _place(folder: Path, voice: str, phrases: Sequence[str]) -> Path:
    return folder / f"synthetic-{_RECIPE}-{voice}-{len(phrases)}"


def _spoken(voice: Path, phrases: Sequence[str]) -> Iterator[bytes]:
    """Yield every phrase in its own pace and pitch variation, in canonical PCM."""
    import onnxruntime
    from piper import PiperVoice, SynthesisConfig

    onnxruntime.set_seed(_SEED)  # the voice's own chance, which its network draws
    chance = np.random.default_rng(_SEED)
    piper = PiperVoice.load(voice)
    for phrase in phrases:
        manner = SynthesisConfig(
            length_scale=chance.uniform(0.85, 1.25),
            noise_scale=chance.uniform(0.5, 0.8),
            noise_w_scale=chance.uniform(0.6, 1.0),
        )
        converter = Converter(AudioFormat(rate=piper.config.sample_rate))
        spoken = b"".join(chunk.audio_int16_bytes for chunk in piper.synthesize(phrase, manner))
        yield converter.convert(spoken) + converter.flush()


def _recorded(speech: _Floats, chance: np.random.Generator, *, noisy: bool) -> bytes:
    """Return `speech` between pauses at a level of its own; `noisy` adds pink noise 8 to 18 dB below the speech."""
    lead, tail = (np.zeros(int(seconds * CANONICAL.rate)) for seconds in (_LEAD_SECONDS, _TAIL_SECONDS))
    samples = np.concatenate([lead, speech * 10 ** (chance.uniform(-15, -3) / 20), tail])
    if noisy:
        loudness = np.sqrt(np.mean(samples**2)) * 10 ** (-chance.uniform(8, 18) / 20)
        noise = pink(len(samples), chance)
        samples = samples + noise / np.sqrt(np.mean(noise**2)) * loudness
    return bytes((np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes())


def pink(samples: int, chance: np.random.Generator) -> _Floats:
    """Return noise whose power falls with the frequency, as that of fans and traffic does."""
    spectrum = np.fft.rfft(chance.standard_normal(samples))
    frequencies = np.maximum(np.arange(len(spectrum)), len(spectrum) * 50 / (CANONICAL.rate / 2))
    return np.fft.irfft(spectrum / np.sqrt(frequencies), samples)
