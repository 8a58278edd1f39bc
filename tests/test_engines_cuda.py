"""CUDA demanded is CUDA or an error; CUDA hoped for is the CPU, said loudly, where it cannot be had."""

import logging

import pytest

from satellite.engines.cuda import load_cublas
from satellite.engines.stt.whisper import _device
from satellite.errors import SpeechToTextError


def test_a_demand_that_cannot_be_met_is_an_error() -> None:
    with pytest.raises(SpeechToTextError, match="sees no CUDA device"):
        _device("cuda", 0, lambda: None)
    with pytest.raises(SpeechToTextError, match=r"libcublas\.so\.12 cannot be loaded") as refused:
        _device("cuda", 1, lambda: "libcublas.so.12 cannot be loaded")
    assert refused.value.code == "stt-not-ready"


def test_auto_falls_back_loudly(caplog: pytest.LogCaptureFixture) -> None:
    assert _device("auto", 1, lambda: None) == "cuda"
    with caplog.at_level(logging.WARNING):
        assert _device("auto", 0, lambda: None) == "cpu"
        assert caplog.text == ""
        assert _device("auto", 1, lambda: "libcublas.so.12 cannot be loaded") == "cpu"
    assert "libcublas.so.12 cannot be loaded" in caplog.text


def test_the_cpu_needs_nothing_of_it() -> None:
    assert _device("cpu", 1, lambda: pytest.fail("looked for CUDA's libraries")) == "cpu"


def test_what_is_missing_is_named_with_its_remedy() -> None:
    missing = load_cublas()
    assert missing is None or ("libcublas" in missing and "pip install" in missing)
