"""Installing from a package index, as most people do; the machine has this machine's network for it."""

import os
from pathlib import Path

from tests.system.machine import Machine, free_port

CONFIG = """
wyoming: {{host: 127.0.0.1, port: {port}, wake_port: null, stt_port: null, tts_port: null, handle_port: null}}
zeroconf: {{enabled: false}}
http: {{enabled: false}}
"""


def test_packages_and_models_come_from_an_index() -> None:
    with Machine(Path(os.environ["SATELLITE_SYSTEM_TESTS"]) / "root", index=True) as machine:
        machine.run(f"mkdir /etc/satellite && echo '{CONFIG.format(port=free_port())}' >/etc/satellite/config.yaml")
        before = machine.run("cksum /etc/satellite/config.yaml").stdout
        machine.run("sh /media/satellite/install.sh", seconds=900)
        assert machine.words == "ready · local smollm2-135m-instruct ready · stt cpu"
        assert "Paris" in machine.run("satellite ask 'What is the capital of France?'").stdout
        assert machine.run("cksum /etc/satellite/config.yaml").stdout == before
        machine.run("! ls -d /root/.cache /var/tmp/tmp.*")
