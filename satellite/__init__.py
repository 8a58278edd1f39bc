"""One daemon that gives a home a fast, private voice over the Wyoming protocol."""

import os

# NumPy's BLAS would spread products of a few thousand numbers over all cores and wait for each of them: on a busy
# machine that takes ten times as long as one core does. It is read when NumPy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# ONNX Runtime 1.31 for Linux reports each model that is loaded, with an identifier of the machine, to its maker. It is
# read when ONNX Runtime is first imported; set to nothing by the user, it reports.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Pydantic would look through everything that is installed for plugins, which takes longer than reading the
# configuration.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

try:
    from satellite._version import __commit_id__, __version__
except ImportError:  # sources that nobody has built or installed
    __version__, __commit_id__ = "0+unknown", None

__all__ = ["__commit_id__", "__version__"]
