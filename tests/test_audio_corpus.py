"""Recordings with their transcripts, and word errors."""

import wave
from pathlib import Path

import pytest

from satellite.audio.corpus import read_corpus
from satellite.audio.pcm import CANONICAL, AudioFormat, write_wav
from satellite.audio.word_errors import WordErrors, edit_distance, normalise, total, word_errors
from satellite.errors import SatelliteError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Turn ON the light!", ["turn", "on", "the", "light"]),
        ("What's up?", ["what", "s", "up"]),
        ("50 percent, or fifty", ["50", "percent", "or", "fifty"]),
        ("Été à Zürich", ["été", "à", "zürich"]),
        ("  …  ", []),
    ],
)
def test_words_are_compared_without_case_and_punctuation(text: str, words: list[str]) -> None:
    assert normalise(text) == words


@pytest.mark.parametrize(
    ("said", "understood", "errors"),
    [
        ("turn on the light", "turn on the light", 0),
        ("turn on the light", "turn off the light", 1),
        ("turn on the light", "turn the light", 1),
        ("turn on the light", "please turn on the the light", 2),
        ("turn on the light", "", 4),
        ("", "thank you", 2),
    ],
)
def test_word_errors_are_edits(said: str, understood: str, errors: int) -> None:
    assert word_errors(said, understood).errors == errors
    assert edit_distance(normalise(understood), normalise(said)) == errors


def test_the_error_rate_counts_words_not_recordings() -> None:
    assert total([WordErrors(1, 1), WordErrors(0, 9)]).percent == pytest.approx(10.0)


def test_silence_understood_as_words_is_an_error() -> None:
    assert word_errors("", "").percent == 0.0
    assert word_errors("", "thank you").percent == 100.0


def test_a_corpus_is_every_recording_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "kitchen").mkdir()
    write_wav(tmp_path / "kitchen" / "b.wav", bytes(2 * 2 * 44_100), AudioFormat(44_100, 2, 2))
    (tmp_path / "kitchen" / "b.txt").write_text("lights on\n", encoding="utf-8")
    write_wav(tmp_path / "a.wav", bytes(320), CANONICAL)
    (tmp_path / "a.txt").write_text("", encoding="utf-8")
    corpus = read_corpus(tmp_path)
    assert [(clip.name, clip.words) for clip in corpus.clips] == [("a", ""), ("kitchen/b", "lights on")]
    assert corpus.seconds == pytest.approx(1.01, abs=0.001)
    assert corpus.longest.name == "kitchen/b"
    assert corpus.name == tmp_path.name


def test_a_corpus_with_faults_names_all_of_them(tmp_path: Path) -> None:
    write_wav(tmp_path / "silent.wav", bytes(320), CANONICAL)
    for name, content in {"noise": b"not a wav", "cut": b"RIFF\x24\x00\x00\x00WAVE"}.items():
        (tmp_path / f"{name}.wav").write_bytes(content)
        (tmp_path / f"{name}.txt").write_text("words", encoding="utf-8")
    write_wav(tmp_path / "empty.wav", b"", CANONICAL)
    (tmp_path / "empty.txt").write_text("words", encoding="utf-8")
    with pytest.raises(SatelliteError) as caught:
        read_corpus(tmp_path)
    assert caught.value.code == "bad-recordings"
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert any("silent.txt is missing" in line for line in lines)
    assert all(str(tmp_path / f"{name}.wav") in str(caught.value) for name in ("noise", "cut", "empty"))


def test_a_recording_in_a_compressed_format_is_a_clear_error(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "odd.wav"), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(16_000)
        wav.writeframes(bytes(64))
    content = bytearray((tmp_path / "odd.wav").read_bytes())
    content[20] = 0x55  # the format of MP3
    (tmp_path / "odd.wav").write_bytes(content)
    (tmp_path / "odd.txt").write_text("words", encoding="utf-8")
    with pytest.raises(SatelliteError, match=r"odd\.wav: the sound cannot be read"):
        read_corpus(tmp_path)


def test_a_folder_without_recordings_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(SatelliteError, match="no recordings"):
            read_corpus(folder)
