"""NVIDIA's libraries, found where pip puts them, so that nobody has to set LD_LIBRARY_PATH.

A library that is loaded is found by its name from then on: that is what CTranslate2 and ONNX Runtime look for. Each has
its own version of CUDA; both may be loaded.
"""

import ctypes
import importlib.util
from pathlib import Path

_CUBLAS = ("libcublasLt.so.12", "libcublas.so.12")
"""What CTranslate2 4 opens when it computes, the one that the other needs first."""


def load_cublas() -> str | None:
    """Load what CTranslate2 needs on a GPU; return what is missing, None when all is there."""
    folder = _wheel_folder()
    for name in _CUBLAS:
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


def load_for_onnxruntime() -> None:
    """Load what ONNX Runtime needs on a GPU, as far as it is there; it tells by itself what it lacks."""
    import onnxruntime

    onnxruntime.preload_dlls()


def _wheel_folder() -> Path | None:
    """Return where the wheel nvidia-cublas-cu12 has its libraries."""
    try:
        package = importlib.util.find_spec("nvidia.cublas")
    except ModuleNotFoundError:
        return None
    places = list(package.submodule_search_locations or ()) if package else []
    return Path(places[0], "lib") if places else None
