"""Logging for a terminal or a pipe: one line a record, severity and logger first, no colours in files."""

import logging


def set_up(level: str) -> None:
    """Log at `level` (debug, info, warning, error) and above to standard error."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S", force=True
    )
    if level != "debug":
        for noisy in ("httpx", "httpx2", "httpcore", "openai", "ollama", "zeroconf", "huggingface_hub", "filelock"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
