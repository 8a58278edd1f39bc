"""Checks of the GPU: driver, libraries, memory, and which stages really run there."""

import asyncio
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import satellite
from satellite.cli.doctor import unit
from satellite.cli.doctor.findings import Finding, State, Target, bad, good, note
from satellite.config.settings import Config
from satellite.engines.cuda import load_cublas
from satellite.models.store import wanted_models
from satellite.system.nvidia import Gpu, driver, gpus

_MODEL_SHARE = 1.3
"""GPU memory that a model takes, as a multiple of its file's size."""


async def _gpu(target: Target) -> Sequence[Finding]:
    config = target.config
    found = await asyncio.to_thread(gpus)
    demanded = [name for name in ("stt", "tts") if getattr(config, name).device == "cuda"]
    if not found:
        if not demanded:
            return [good("gpu", "none found, and none is configured")]
        seen = (
            f"device: cuda is set for {', '.join(demanded)}, and no driver knows a GPU: install it, or set device: auto"
        )
        return [bad("gpu", seen, "nvidia-smi")]
    version = await asyncio.to_thread(driver)
    findings = [good("gpu driver", version or "does not report its version")]
    findings += [_memory(config, gpu, loaded=target.state is not None) for gpu in found]
    if any(getattr(config, name).device != "cpu" and not getattr(config, name).uri for name in ("stt", "tts")):
        findings += await asyncio.to_thread(_libraries, demanded)
    return findings + _devices(target, demanded)


def _installed() -> str:
    """Return the command that installs the libraries."""
    if unit.installed():
        return unit.installer("--upgrade --gpu cuda")
    return f"{sys.executable} -m pip install -e {Path(satellite.__file__).parent.parent}'[gpu]'"


def _libraries(demanded: Sequence[str]) -> list[Finding]:
    """Load the libraries as the engines do; that they are installed proves nothing."""
    import onnxruntime  # takes a second, and is needed on machines with a GPU alone

    absent = State.BAD if demanded else State.NOTE
    if missing := load_cublas():
        stt = Finding("cuda for stt", absent, missing, _installed())
    else:
        stt = good("cuda for stt", f"cuBLAS 12 loads (CTranslate2 {metadata.version('ctranslate2')})")
    runtime = f"ONNX Runtime {onnxruntime.__version__}"
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return [stt, good("cuda for tts", f"{runtime} is built for it")]
    return [stt, Finding("cuda for tts", absent, f"{runtime} is the one for CPUs", _installed())]


def _memory(config: Config, gpu: Gpu, *, loaded: bool) -> Finding:
    """Compare the memory that our models need with what is free, or with all of it where they are `loaded` already."""
    name = f"gpu {gpu.name or ''}".strip()
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return note(name, "does not report its memory")
    specs = [spec for spec in wanted_models(config) if spec.kind.value in ("stt", "tts")]
    need = _MODEL_SHARE * sum(spec.size_bytes or 0 for spec in specs)
    # Loaded models are part of what is used already, and must not be counted twice.
    total = gpu.memory_total_bytes
    free = total - gpu.memory_used_bytes
    seen = f"{free / 1e9:.1f} GB of {total / 1e9:.1f} GB are free; our models need {need / 1e9:.1f}"
    if (total if loaded else free) < need:
        seen += "; end the program that uses it, or choose a smaller stt.model, or device: cpu for one stage"
        return bad(name, seen, "nvidia-smi")
    return good(name, seen)


def _devices(target: Target, demanded: Sequence[str]) -> list[Finding]:
    seen = "runs on the CPU although there is a GPU"
    return [
        (bad if stage["stage"] in demanded else note)(f"gpu: {stage['stage']}", seen, _installed())
        for stage in target.stages
        if str(stage.get("device", "")).startswith("cpu")
    ]


CHECKS = {"gpu": _gpu}
