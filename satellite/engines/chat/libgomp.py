"""libgomp for xllamacpp, whose wheel takes it for granted, on systems that have none (a minimal Debian, say)."""

import ctypes
import importlib.util
import os
from pathlib import Path

_NAME = "libgomp.so.1"


def library_path(folder: Path) -> str | None:
    """Return the LD_LIBRARY_PATH for a process that needs libgomp, None where the system has it.

    `folder` must live until the process has loaded its libraries. Raises `OSError`, which says what to install.
    """
    try:
        ctypes.CDLL(_NAME)
    except OSError as missing:
        path = link_to_bundled(folder)
        if path is None:
            raise OSError("the system has no libgomp; on Debian or Ubuntu: sudo apt install libgomp1") from missing
        return path
    return None


def link_to_bundled(folder: Path) -> str | None:
    """Put into `folder` a link with the usual name to the libgomp that CTranslate2's wheel brings under another.

    Return the LD_LIBRARY_PATH that leads to it, None when there is none.
    """
    package = importlib.util.find_spec("ctranslate2")
    if package is None or package.origin is None:
        return None
    for bundled in sorted(Path(package.origin).parent.with_name("ctranslate2.libs").glob("libgomp-*")):
        (folder / _NAME).symlink_to(bundled)
        return os.pathsep.join(filter(None, (str(folder), os.environ.get("LD_LIBRARY_PATH"))))
    return None
