"""One daemon that gives a home a fast, private voice over the Wyoming protocol."""

import os

# NumPy's BLAS would spread products of a few thousand numbers over all cores and wait for each of them: on a busy
# machine that takes ten times as long as one core does. It is read when NumPy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
