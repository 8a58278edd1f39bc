"""The process that runs llama.cpp: requests come as JSON lines on standard input, pieces go out as JSON lines.

A process of its own, because xllamacpp holds Python's lock while it loads a model, for seconds with a large one, and
because llama.cpp ends its process where it finds a fault in itself. Run by its path, so that it imports nothing else
of satellite; it ends when its standard input does, that is, with the daemon.

    in:   first what shall be loaded, then  {"id": 1, "request": {...}}  a chat completion        {"cancel": 1}
    out:  {"ready": true} or {"failed": "why"}  {"id": 1, "chunk": {...}}  {"id": 1, "done": true}
"""

import json
import os
import queue
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

# Lines go out by a copy of standard output; whatever a library prints there goes to standard error instead.
LINES = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def main() -> None:
    """Load the model that the first line describes, and answer until standard input ends."""
    try:
        server = load(json.loads(sys.stdin.readline()))
    except (OSError, ImportError, RuntimeError, ValueError) as error:
        write({"failed": str(error)})
        sys.exit(1)
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    cancelled: set[int] = set()
    threading.Thread(target=answer_all, args=(server, requests, cancelled), daemon=True).start()
    write({"ready": True})
    for line in sys.stdin:
        message = json.loads(line)
        if "cancel" in message:
            cancelled.add(message["cancel"])
        else:
            requests.put(message)
    os._exit(0)  # not through llama.cpp's destructors, which wait for its threads


def load(settings: dict[str, Any]) -> Any:
    """Return llama.cpp's server, which listens to nobody: its socket lies in a folder that is gone by now."""
    try:
        import xllamacpp
    except ModuleNotFoundError as missing:
        raise ImportError("xllamacpp is not installed: pip install 'satellite-voice[local-chat]'") from missing
    with Path(settings["file"]).open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError("it is no GGUF file")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings["file"]
    parameters.n_ctx = settings["context_tokens"]
    parameters.n_batch = parameters.n_ubatch = settings["batch_tokens"]
    parameters.n_gpu_layers = settings["gpu_layers"]
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = settings["threads"]
    parameters.n_parallel = parameters.n_threads_http = 1
    parameters.cache_ram_mib = 0  # one conversation's prefix stays in the context; others are not worth gigabytes
    parameters.verbosity = -1
    parameters.ui = False
    with tempfile.TemporaryDirectory(prefix="satellite-") as folder:
        parameters.hostnames = [str(Path(folder, "llama.sock"))]
        server = xllamacpp.Server(parameters)
    # The first request is slower than all others; it also leaves the system prompt in the context.
    server.handle_chat_completions(settings["warm_up"], lambda _: False)
    return server


def answer_all(server: Any, requests: "queue.Queue[dict[str, Any]]", cancelled: set[int]) -> None:
    """Answer one request after the other, for ever."""
    while True:
        message = requests.get()
        number = message["id"]

        def pass_on(chunk: dict[str, Any], number: int = number) -> bool:
            write({"id": number, "chunk": chunk})
            return number in cancelled or "error" in chunk

        if number not in cancelled:
            try:
                server.handle_chat_completions(message["request"], pass_on)
            except (RuntimeError, ValueError) as error:  # text that is no Unicode, roles the template does not know
                write({"id": number, "chunk": {"error": {"code": 400, "message": str(error)}}})
        cancelled.discard(number)
        write({"id": number, "done": True})


def write(message: dict[str, Any]) -> None:
    """Write one line."""
    LINES.write(json.dumps(message) + "\n")
    LINES.flush()


if __name__ == "__main__":
    main()
