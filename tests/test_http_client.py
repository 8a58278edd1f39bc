"""Addresses of servers: which are at home, and how they are shown."""

import pytest

from satellite.net.http_client import is_at_home, shown_url


@pytest.mark.parametrize(
    ("url", "at_home"),
    [
        ("http://127.0.0.1:11434", True),
        ("http://[::1]:11434", True),
        ("http://192.168.1.20", True),
        ("http://[fe80::1%25eth0]:1", True),
        ("http://localhost:11434", True),
        ("http://gpu:11434", True),
        ("https://ollama.lan/", True),
        ("https://ollama.home.arpa", True),
        ("https://api.groq.com/openai/v1", False),
        ("http://8.8.8.8", False),
        ("https://localhost.example.com", False),
        ("https://127.0.0.1@evil.example.com/", False),
    ],
)
def test_an_address_is_at_home_or_not(url: str, at_home: bool) -> None:
    assert is_at_home(url) is at_home


def test_a_url_is_shown_without_its_secrets() -> None:
    assert shown_url("https://me:pw@host:8443/v1/?token=x") == "https://host:8443/v1"
