"""libgomp for xllamacpp, whose wheel takes it for granted, on systems that have none (a minimal Debian, say).

CTranslate2's wheel brings a copy under a name of its own (`auditwheel` renames what it bundles). A copy of that copy
with the usual name in it, loaded first, is what the dynamic linker then finds for xllamacpp: it knows loaded
libraries by the name inside them (DT_SONAME).
"""

import ctypes
import importlib.util
import logging
import re
import tempfile
from pathlib import Path

_LOGGER = logging.getLogger(__name__)

_NAME = b"libgomp.so.1"
_BUNDLED = re.compile(rb"libgomp-[0-9a-f]+\.so[.0-9]*")


def provide() -> None:
    """Make sure that libgomp.so.1 is loaded; raises `OSError`, which says what to install."""
    try:
        ctypes.CDLL(_NAME.decode())
        return
    except OSError as error:
        missing = error
    bundled = _bundled()
    if bundled is None:
        raise OSError("the system has no libgomp; on Debian or Ubuntu: sudo apt install libgomp1") from missing
    renamed = _BUNDLED.sub(lambda match: _NAME.ljust(len(match[0]), b"\0"), bundled.read_bytes())
    with tempfile.TemporaryDirectory(prefix="satellite-") as folder:
        library = Path(folder, _NAME.decode())
        library.write_bytes(renamed)
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)  # stays loaded when its file is gone
    _LOGGER.debug("the system has no libgomp: using %s", bundled.name)


def _bundled() -> Path | None:
    """Return the libgomp that CTranslate2's wheel brings."""
    package = importlib.util.find_spec("ctranslate2")
    if package is None or package.origin is None:
        return None
    libraries = Path(package.origin).parent.with_name("ctranslate2.libs")
    return next(iter(sorted(libraries.glob("libgomp-*"))), None)
