"""NVIDIA's libraries, loaded from where pip installs them, so that LD_LIBRARY_PATH need not be set.

Once a library is loaded, CTranslate2 finds it by its name. ONNX Runtime preloads its own, of another version of CUDA.
"""

import ctypes
import importlib.util
from pathlib import Path

_CUBLAS = ("libcublasLt.so.12", "libcublas.so.12")
"""What CTranslate2 4 opens when it computes; the second depends on the first."""


def load_cublas() -> str | None:
    """Load what CTranslate2 needs on a GPU; return what is missing and the remedy, or None."""
    folder = _wheel_folder()
    for name in _CUBLAS:
        # The name alone last: a library of the system is used if there is no wheel.
        places = [str(folder / name)] if folder is not None and (folder / name).is_file() else []
        for place in [*places, name]:
            try:
                ctypes.CDLL(place, mode=ctypes.RTLD_GLOBAL)
                break
            except OSError:
                continue
        else:
            remedy = "sudo ./install.sh --upgrade --gpu cuda, or in a clone: .venv/bin/pip install -e '.[gpu]'"
            return f"{name} cannot be loaded: {remedy}"
    return None


def _wheel_folder() -> Path | None:
    """Return the folder with the libraries of the wheel nvidia-cublas-cu12."""
    try:
        package = importlib.util.find_spec("nvidia.cublas")
    except ModuleNotFoundError:
        return None
    places = list(package.submodule_search_locations or ()) if package else []
    return Path(places[0], "lib") if places else None
