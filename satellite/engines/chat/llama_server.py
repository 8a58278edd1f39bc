"""The program that serves a model by llama.cpp, with its OpenAI-compatible API on a Unix socket.

A process of its own, because xllamacpp holds Python's lock while it loads a model, for seconds with a large one, and
because llama.cpp ends its process where it finds a fault in itself. Run by its path, so that it imports nothing else
of satellite. It reads one JSON object of settings from standard input, answers with one line, `{"ready": true}` or
`{"failed": "reason"}`, and ends when its standard input does, that is, with the daemon.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve the model that the first line describes until standard input ends."""
    # The answer goes out by a copy of standard output; whatever a library prints there goes to standard error.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    settings = json.loads(sys.stdin.readline())
    try:
        _server = load(settings)  # held, because its destructor stops it
    except (OSError, ImportError, RuntimeError, ValueError) as error:
        print(json.dumps({"failed": str(error)}), file=output, flush=True)
        sys.exit(1)
    print(json.dumps({"ready": True}), file=output, flush=True)
    sys.stdin.read()
    # A daemon that was killed cannot remove the folder itself.
    shutil.rmtree(settings["folder"], ignore_errors=True)
    os._exit(0)  # not through llama.cpp's destructors, which wait for its threads


def load(settings: dict[str, Any]) -> Any:
    """Return llama.cpp's server, which listens at `llama.sock` in the settings' folder."""
    with Path(settings["file"]).open("rb") as file:  # before the import, which takes a second
        if file.read(4) != b"GGUF":
            raise ValueError("it is no GGUF file")
    try:
        import xllamacpp
    except ModuleNotFoundError as missing:
        raise ImportError("xllamacpp is not installed: pip install 'satellite-voice[local-chat]'") from missing
    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings["file"]
    parameters.n_parallel = settings["parallel"]
    parameters.n_ctx = settings["context_tokens"] * settings["parallel"]
    parameters.kv_unified = False  # else one long conversation takes the room of the others
    parameters.n_batch = parameters.n_ubatch = settings["batch_tokens"]
    parameters.n_gpu_layers = settings["gpu_layers"]
    parameters.cpuparams.n_threads = settings["threads"]
    parameters.cpuparams_batch.n_threads = settings["batch_threads"]
    parameters.n_threads_http = settings["parallel"] + 3  # a prompt read ahead, the watch, an answer being cancelled
    parameters.cache_ram_mib = 0  # each slot keeps its last conversation's prefix; more is not worth gigabytes
    parameters.sse_ping_interval = -1
    parameters.endpoint_slots = True  # answered by the thread that computes: a sign that it does not hang
    parameters.verbosity = -1
    parameters.ui = False
    parameters.hostnames = [str(Path(settings["folder"], "llama.sock"))]
    return xllamacpp.Server(parameters)


if __name__ == "__main__":
    main()
