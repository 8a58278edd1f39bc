"""espeak in a process of its own: no text and no signal there ends this process, or the reading of the next text."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from satellite.engines.tts import espeak
from satellite.engines.tts.espeak import EspeakBridge, EspeakProcess, phonemizer, readable
from satellite.errors import TextToSpeechError
from tests.test_engines_tts_piper import CONFIG, ONE_SPEAKER
from tests.waiting import PATIENCE_SECONDS, eventually

HOSTILE = [
    ".._字" * 60,
    "A.B." * 500,
    "_é." * 400,
    "a.b." * 200,
    "'s" * 600,
    "a" * 3000,
    "il fait beau " * 400,
    "e" + "\u0301" * 3000,
    "\x015P" * 400,
]
READ = """
import sys
from pathlib import Path
from satellite.config.settings import TtsSettings
from satellite.engines.tts.kokoro_phonemes import KokoroPhonemes
from satellite.engines.tts.piper import PiperVoice
file, text = Path(sys.argv[1]), sys.argv[2]
for letter in "afhi":
    assert any(KokoroPhonemes(letter).sentences(text))
voice = PiperVoice(file, file.parent, ["CPUExecutionProvider"], 1)
assert any(voice.sentences(text, TtsSettings(), None))
"""


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_endless_words_and_clauses_do_not_end_the_process(tmp_path: Path, text: str) -> None:
    voice = tmp_path / "odd.onnx"
    voice.write_bytes(ONE_SPEAKER)
    Path(f"{voice}.json").write_text(json.dumps(CONFIG | {"phoneme_type": "espeak"}))
    subprocess.run([sys.executable, "-c", READ, voice, text], check=True, timeout=120)


@pytest.fixture
def process() -> Iterator[EspeakProcess]:
    process = EspeakProcess("en-us")
    try:
        yield process
    finally:
        process.end()


@pytest.fixture
def bridge() -> Iterator[EspeakBridge]:
    bridge = EspeakBridge()
    bridge.set_voice("en-us")
    yield bridge
    if bridge._process is not None:
        bridge._process.end()


def said(bridge: EspeakBridge, text: str) -> str:
    return " ".join(phonemes for phonemes, _, _ in bridge.get_phonemes(text))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_text_that_may_end_espeak_costs_nothing_but_itself(
    bridge: EspeakBridge, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Which of the texts do depends on where its memory lies."""
    monkeypatch.setattr(espeak, "readable", str)
    before = said(bridge, "Hello, you.")
    assert said(bridge, text)
    assert said(bridge, "Hello, you.") == before == "həlˈoʊ juː"


def test_after_the_end_of_a_reader_each_text_has_its_own_answer(bridge: EspeakBridge) -> None:
    assert said(bridge, "Hello.") == "həlˈoʊ"
    assert bridge._process is not None
    program = psutil.Process(bridge._process.pid)

    def waiting() -> list[psutil.Process]:  # the reader that has just answered may not have ended yet
        with suppress(psutil.NoSuchProcess):
            return [reader for reader in program.children() if reader.status() == psutil.STATUS_SLEEPING]
        return []

    eventually(waiting)
    [reader] = waiting()
    reader.send_signal(signal.SIGSEGV)
    assert [said(bridge, text) for text in ("Hello.", "You.", "Hello.")] == ["həlˈoʊ", "juː", "həlˈoʊ"]


def test_a_text_that_cannot_be_read_at_all_is_an_error(
    bridge: EspeakBridge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (broken := tmp_path / "broken.py").write_text("raise SystemExit(1)")
    with monkeypatch.context() as patched:
        patched.setattr(espeak, "_PROGRAM", broken)
        with pytest.raises(TextToSpeechError, match=r"^espeak cannot read 'Hello\.': ") as caught:
            bridge.get_phonemes("Hello.")
    assert caught.value.code == "tts-failed"
    assert said(bridge, "Hello.") == "həlˈoʊ"


def test_an_unknown_voice_is_an_error() -> None:
    with pytest.raises(TextToSpeechError, match="Failed to set voice: of-nowhere"):
        phonemizer("of-nowhere")
    assert phonemizer("fr")("Bonjour.") == [list("bɔ̃ʒˈuʁ.")]


def test_a_process_that_is_killed_is_started_again(bridge: EspeakBridge) -> None:
    assert said(bridge, "Hello.") == "həlˈoʊ"
    assert bridge._process is not None
    os.kill(bridge._process.pid, signal.SIGKILL)
    assert said(bridge, "Hello.") == "həlˈoʊ"


def test_a_process_that_is_killed_while_it_reads_is_started_again(bridge: EspeakBridge) -> None:
    assert said(bridge, "Hello.") == "həlˈoʊ"
    assert bridge._process is not None
    stopped = bridge._process.pid
    os.killpg(stopped, signal.SIGSTOP)
    killer = threading.Timer(0.2, os.killpg, (stopped, signal.SIGKILL))
    killer.start()
    assert said(bridge, "Hello.") == "həlˈoʊ"
    killer.join()
    assert bridge._process.pid != stopped


def test_a_process_that_does_not_answer_is_started_again(bridge: EspeakBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(bridge, "Hello.") == "həlˈoʊ"
    assert bridge._process is not None
    bridge._process._socket.settimeout(0.2)
    stopped = psutil.Process(bridge._process.pid)
    os.killpg(stopped.pid, signal.SIGSTOP)
    assert said(bridge, "Hello.") == "həlˈoʊ"
    assert not stopped.is_running()


def test_it_has_little_memory_and_leaves_no_dump(process: EspeakProcess) -> None:
    process.ask("en-us", "Hello.")
    assert resource.prlimit(process.pid, resource.RLIMIT_AS) == (256 << 20, 256 << 20)
    assert resource.prlimit(process.pid, resource.RLIMIT_CORE) == (0, 0)


IN_USE = """
import sys, time
import piper
from satellite.engines.tts.espeak import phonemizer
assert [phonemizer(voice)("a") for voice in ("fr", "en-us", "fr")]
print(vars(piper)["espeakbridge"]._process.pid, "espeakbridge" in open("/proc/self/maps").read(), flush=True)
time.sleep(1000)
"""


def test_espeak_is_in_no_process_but_its_own_and_ends_with_the_daemon() -> None:
    with subprocess.Popen([sys.executable, "-c", IN_USE], stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        pid, is_inside = daemon.stdout.readline().split()
        assert is_inside == "False"
        started = psutil.Process(int(pid))
        processes = [started, *started.children()]
        daemon.kill()
    eventually(lambda: not any(process.is_running() for process in processes), PATIENCE_SECONDS)


@pytest.mark.parametrize(
    "text",
    [
        "Il est 15 h 30, et l'eau bout : qu'est-ce qu'on fait ?",
        "The U.S.A. and the E.U. met at 5 p.m., e.g. in Washington, D.C.",
        "Donaudampfschifffahrtselektrizitätenhauptbetriebs",
        "नमस्ते, क्‍या हाल है? می‌خواهم بروم.",
        "It is 20.5 °C. " * 60,
    ],
)
def test_ordinary_text_is_not_changed(text: str) -> None:
    assert readable(text) == text


def test_what_has_no_sound_is_left_out() -> None:
    assert readable("a\u200bb \ue000 \ud800c\u2800") == "ab    c "


def test_long_words_are_parted(process: EspeakProcess) -> None:
    assert {len(part) for part in readable("x" * 3200).split()} == {50}
    assert {part[-1] for part in readable("word-" * 100).split()} == {"-"}
    of_each = [process.ask("cmn", readable("今天天气很好" * times))["clauses"][0][0] for times in (10, 20)]
    assert abs(len(of_each[1]) / len(of_each[0]) - 2) < 0.1
