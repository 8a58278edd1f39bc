"""ONNX Runtime sessions that leave processor and memory to the other engines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Provider: TypeAlias = str | tuple[str, Mapping[str, str]]
"""An execution provider of ONNX Runtime, with options if need be."""

CPU: tuple[Provider, ...] = ("CPUExecutionProvider",)


class OnnxValue(Protocol):
    """An input or output of a session."""

    name: str
    type: str
    shape: Sequence[object]


class OnnxSession(Protocol):
    """The methods of `onnxruntime.InferenceSession`, which has no types, that are used here."""

    def run(self, outputs: None, inputs: "Mapping[str, NDArray[np.generic]]") -> "list[NDArray[np.float32]]":
        """Return all outputs for `inputs` by name; blocking."""

    def get_inputs(self) -> Sequence[OnnxValue]:
        """Return the inputs."""

    def get_outputs(self) -> Sequence[OnnxValue]:
        """Return the outputs."""

    def get_providers(self) -> Sequence[str]:
        """Return the providers in use, the first choice first."""


def load_session(
    model: Path | bytes,
    *,
    providers: Sequence[Provider] = CPU,
    threads: int = 1,
    memory_arena: bool = False,
    log_errors: bool = True,
) -> OnnxSession:
    """Load a model; blocking. Raises one of `model_errors()` if it cannot be used.

    `memory_arena` speeds up tiny networks. Without `log_errors`, ONNX Runtime logs none of the errors that it raises.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The arena keeps its peak for ever; for large networks it saves a tenth of the time.
    options.enable_cpu_mem_arena = memory_arena
    # A thread that spins while it waits for work takes the core from the other engines.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not log_errors:
        options.log_severity_level = 4
    source = model if isinstance(model, bytes) else str(model)
    return cast(OnnxSession, onnxruntime.InferenceSession(source, options, list(providers)))


def model_errors() -> tuple[type[Exception], ...]:
    """Return what loading and trying a damaged or unsuitable model may raise.

    The dozen exceptions of ONNX Runtime have no common base but `Exception`.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    own = (kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception))
    usual = (OSError, LookupError, TypeError, AttributeError, ValueError, RuntimeError)
    return (*usual, ArithmeticError, MemoryError, *own)  # numbers in its files may be of any size
