"""ONNX Runtime sessions that leave processor and memory to the other engines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

CPU: tuple[Any, ...] = ("CPUExecutionProvider",)


def load_session(
    model: Path | bytes,
    *,
    providers: Sequence[Any] = CPU,
    threads: int = 1,
    memory_arena: bool = False,
    log_errors: bool = True,
) -> Any:
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
    return onnxruntime.InferenceSession(source, options, list(providers))


def model_errors() -> tuple[type[Exception], ...]:
    """Return what loading and trying a damaged or unsuitable model may raise.

    The dozen exceptions of ONNX Runtime have no common base but `Exception`.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    own = (kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception))
    return (OSError, LookupError, TypeError, AttributeError, ValueError, RuntimeError, *own)
