"""The pure parts of the benchmark: statistics, word errors, corpora, playback and memory."""

import asyncio
import wave
from pathlib import Path

import pytest
from satellite_bench import memory, synthetic
from satellite_bench.contest import Outcome, Pair, compete, turns
from satellite_bench.memory import Memory, MemoryState
from satellite_bench.server import Command, Server, free_port, started
from satellite_bench.stats import Compared, percentile, summarise
from satellite_bench.tts import Playback
from wyoming.audio import AudioChunk

from satellite.audio.corpus import read_corpus
from satellite.audio.pcm import CANONICAL, AudioFormat, write_wav
from satellite.audio.word_errors import WordErrors, edit_distance, normalise, total, word_errors
from satellite.errors import SatelliteError

OURS, THEIRS = Server("ours", 1, 1), Server("theirs", 2, 2)


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 10.0), (50, 30.0), (95, 48.0), (100, 50.0), (25, 20.0), (10, 14.0)]
)
def test_a_percentile_lies_between_neighbours_in_proportion(percent: float, expected: float) -> None:
    """Percentiles agree with numpy's, whatever the order of the values."""
    assert percentile([50.0, 10.0, 40.0, 20.0, 30.0], percent) == pytest.approx(expected)


def test_one_value_is_its_own_summary() -> None:
    """A single measurement is median, 95th percentile, maximum and mean at once."""
    summary = summarise([7.0])
    assert (summary.n, summary.median, summary.p95, summary.max, summary.mean) == (1, 7.0, 7.0, 7.0, 7.0)


def test_nothing_measured_has_no_summary() -> None:
    """A figure is never made up where nothing was measured."""
    with pytest.raises(ValueError, match="nothing was measured"):
        summarise([])


def test_a_comparison_tells_how_ours_relates_to_theirs() -> None:
    """The ratio is ours over theirs, and absent when theirs was not measured or is nothing."""
    assert Compared(summarise([50.0]), summarise([200.0])).median_ratio == 0.25
    assert Compared(summarise([50.0])).median_ratio is None
    assert Compared(summarise([0.0]), summarise([0.0])).described()["ratio"] == {"median": None, "p95": None}


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
    """Case and punctuation are no errors; numerals and words for them stay different."""
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
    """A substitution, a word too many and a word too few count one each."""
    assert word_errors(said, understood).errors == errors
    assert edit_distance(normalise(understood), normalise(said)) == errors


def test_the_error_rate_counts_words_not_recordings() -> None:
    """The rate of a corpus is all errors over all words, so a short recording weighs little."""
    assert total([WordErrors(1, 1), WordErrors(0, 9)]).percent == pytest.approx(10.0)


def test_silence_understood_as_words_is_an_error() -> None:
    """Without a word said, only silence is right."""
    assert word_errors("", "").percent == 0.0
    assert word_errors("", "thank you").percent == 100.0


def test_a_corpus_is_every_recording_below_the_folder(tmp_path: Path) -> None:
    """Recordings in any rate, in folders too, come by name with their words, as canonical PCM."""
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
    """A missing transcript, a file that is no WAV, a cut one and an empty one are each named; none is left out."""
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
    """A WAV file that holds no PCM is named, with what is wrong with it."""
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
    """An empty folder, or one that does not exist, is no corpus."""
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(SatelliteError, match="no recordings"):
            read_corpus(folder)


def test_the_synthetic_corpus_has_some_sixty_different_phrases() -> None:
    """Every phrase stands once, and none has a numeral that could be written in two ways."""
    assert 55 <= len(synthetic.PHRASES) == len(set(synthetic.PHRASES))
    assert not any(character.isdigit() for phrase in synthetic.PHRASES for character in phrase)


def _chunk(*samples: int, repeat: int = 1) -> AudioChunk:
    pcm = b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples) * repeat
    return AudioChunk(rate=1000, width=2, channels=1, audio=pcm)


def test_silence_before_the_words_takes_its_time() -> None:
    """The first audible sample is heard after the silence in front of it has been played."""
    playback = Playback()
    playback.take(_chunk(0, repeat=100), 50.0)
    playback.take(_chunk(0, 0, 327, -328), 60.0)
    assert playback.first_audio_ms == 50.0
    assert playback.first_audible_ms == pytest.approx(50 + 100 + 3)
    assert playback.audio_ms == pytest.approx(104)
    assert playback.stall_ms == 0.0


def test_a_chunk_that_comes_late_is_a_gap() -> None:
    """Sound that arrives after what was there has been played leaves a gap of that length."""
    playback = Playback()
    playback.take(_chunk(9000, repeat=100), 10.0)
    playback.take(_chunk(9000, repeat=100), 150.0)
    playback.take(_chunk(9000, repeat=100), 160.0)
    assert playback.stall_ms == pytest.approx(40.0)


def test_silence_alone_is_never_audible() -> None:
    """An answer of silence has a first chunk and no first sound."""
    playback = Playback()
    playback.take(_chunk(0, repeat=10), 5.0)
    assert playback.first_audible_ms is None


def test_the_order_swaps_with_every_item_and_every_repeat() -> None:
    """Each item is given to either server first equally often."""
    first = [(item, servers[0].name) for item, servers in turns(Pair(OURS, THEIRS), ["a", "b"], 2)]
    assert first == [("a", "ours"), ("b", "theirs"), ("a", "theirs"), ("b", "ours")]


def test_a_failed_request_is_counted_and_the_contest_goes_on() -> None:
    """A request that fails leaves a gap on its side alone and is told with the server's name."""

    async def request(server: Server, item: str) -> float:
        if server is THEIRS and item == "b":
            raise SatelliteError("out of order")
        return float(server.port)

    outcome = asyncio.run(compete(Pair(OURS, THEIRS), ["a", "b"], request, repeats=1))
    assert outcome.ours == [("a", 1.0), ("b", 1.0)]
    assert outcome.theirs == [("a", 2.0), ("b", None)]
    assert outcome.failures == ["theirs: out of order"]
    compared = outcome.compared(lambda result: result)
    assert compared.theirs is not None
    assert (compared.ours.n, compared.theirs.n) == (2, 1)


def test_a_side_that_never_answered_has_no_figure() -> None:
    """Where every request failed there is an error with the reasons instead of a figure."""
    outcome: Outcome[str, float] = Outcome(ours=[("a", None)], failures=["ours: down"])
    with pytest.raises(SatelliteError, match="ours: down"):
        outcome.compared(lambda result: result)


def test_memory_is_read_off_the_kernels_summary() -> None:
    """PSS, RSS and its peak come in MiB out of the texts of smaps_rollup and status."""
    rollup = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:  204800 kB\nPss:  102400 kB\nPss_Dirty: 1 kB\n"
    status = "Name:\tpython\nVmHWM:\t  307200 kB\nThreads:\t3\n"
    assert memory.parse(rollup, status) == Memory(pss=100.0, rss=200.0, peak=300.0)


def test_a_server_that_has_ended_has_no_memory_to_be_proud_of() -> None:
    """Where no process is left there is an error, and not a server of zero bytes."""
    with pytest.raises(SatelliteError, match="gone has ended"):
        memory.of(Server("gone", 1, process_id=2**22 + 1))


def test_their_memory_is_the_sum_of_their_processes() -> None:
    """The daemon is held against all official servers together."""
    theirs = {"stt": Memory(10.0, 20.0), "tts": Memory(1.0, 2.0)}
    assert MemoryState(Memory(1.0, 1.0), theirs).their_sum == Memory(11.0, 22.0)
    assert MemoryState(Memory(1.0, 1.0), {}).their_sum is None


def test_a_server_that_ends_at_once_shows_its_log() -> None:
    """A server that cannot start is an error with its status and its last words."""

    async def run() -> None:
        async with started(Command("broken", free_port(), ["sh", "-c", "echo no such model; exit 3"])):
            pytest.fail("it cannot have answered")

    with pytest.raises(SatelliteError, match=r"(?s)broken ended with status 3.*no such model"):
        asyncio.run(run())
