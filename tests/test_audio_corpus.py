"""Recordings with their transcripts, and word errors."""

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
    ("said", "understood", "errors", "percent"),
    [
        ("turn on the light", "turn on the light", 0, 0),
        ("turn on the light", "turn off the light", 1, 25),
        ("turn on the light", "turn the light", 1, 25),
        ("turn on the light", "please turn on the the light", 2, 50),
        ("turn on the light", "", 4, 100),
        ("", "thank you", 2, 100),
        ("", "", 0, 0),
    ],
)
def test_word_errors_are_edits(said: str, understood: str, errors: int, percent: float) -> None:
    found = word_errors(said, understood)
    assert (found.errors, found.percent) == (errors, percent)
    assert edit_distance(normalise(understood), normalise(said)) == errors


def test_the_error_rate_counts_words_not_recordings() -> None:
    assert total([WordErrors(1, 1), WordErrors(0, 9)]).percent == pytest.approx(10.0)


def test_a_corpus_is_every_recording_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "kitchen").mkdir()
    write_wav(tmp_path / "kitchen" / "b.wav", bytes(2 * 2 * 44_100), AudioFormat(44_100, 2, 2))
    (tmp_path / "kitchen" / "b.txt").write_text("lights on\n", encoding="utf-8")
    write_wav(tmp_path / "a.wav", bytes(320), CANONICAL)
    (tmp_path / "a.txt").write_text("", encoding="utf-8")
    corpus = read_corpus(tmp_path)
    assert [(clip.name, clip.words) for clip in corpus.clips] == [("a", ""), ("kitchen/b", "lights on")]
    assert corpus.seconds == pytest.approx(1.01, abs=0.001)
    assert (corpus.longest.name, corpus.name) == ("kitchen/b", tmp_path.name)


def test_a_corpus_with_faults_names_all_of_them(tmp_path: Path) -> None:
    write_wav(tmp_path / "odd.wav", bytes(64), CANONICAL)
    compressed = bytearray((tmp_path / "odd.wav").read_bytes())
    compressed[20] = 0x55  # the format of MP3
    contents = {"noise": b"not a wav", "cut": b"RIFF\x24\x00\x00\x00WAVE", "odd": bytes(compressed)}
    for name, content in contents.items():
        (tmp_path / f"{name}.wav").write_bytes(content)
    write_wav(tmp_path / "empty.wav", b"", CANONICAL)
    write_wav(tmp_path / "silent.wav", bytes(320), CANONICAL)
    for name in (*contents, "empty"):
        (tmp_path / f"{name}.txt").write_text("words", encoding="utf-8")
    with pytest.raises(SatelliteError) as caught:
        read_corpus(tmp_path)
    assert caught.value.code == "bad-recordings"
    cut, empty, noise, odd, silent = str(caught.value).splitlines()
    for line, name in ((cut, "cut"), (empty, "empty"), (noise, "noise"), (odd, "odd")):
        assert str(tmp_path / f"{name}.wav") in line
    assert "the sound cannot be read" in odd
    assert "silent.txt is missing" in silent


def test_a_folder_without_recordings_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(SatelliteError, match="no recordings"):
            read_corpus(folder)
