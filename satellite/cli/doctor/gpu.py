"""Checks of the GPU: driver, libraries, memory, and which stages really run there."""

import asyncio
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import satellite
from satellite.cli.doctor import unit
from satellite.cli.doctor.finding import Finding, State
from satellite.config.settings import Config
from satellite.engines.cuda import load_cublas
from satellite.models.store import wanted_models
from satellite.system.nvidia import driver, gpus

_MODEL_SHARE = 1.3
"""Memory of a GPU that a model takes, of the size of its file."""


async def _gpu(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    found = await asyncio.to_thread(gpus)
    demanded = [name for name in ("stt", "tts") if getattr(config, name).device == "cuda"]
    if not found:
        if not demanded:
            return [Finding("gpu", State.GOOD, "none, and none is wanted")]
        seen = f"{', '.join(demanded)} shall run on CUDA, and no driver knows a GPU: install it, or set device: auto"
        return [Finding("gpu", State.BAD, seen, "nvidia-smi")]
    version = await asyncio.to_thread(driver)
    findings = [Finding("gpu driver", State.GOOD, version or "does not tell its version")]
    findings += [_memory(config, gpu, loaded=state is not None) for gpu in found]
    if any(getattr(config, name).device != "cpu" and not getattr(config, name).uri for name in ("stt", "tts")):
        findings += await asyncio.to_thread(_libraries, demanded)
    return findings + _devices(state, demanded)


def _installed() -> str:
    """Return what installs the libraries."""
    if unit.installed():
        return unit.installer("--upgrade --gpu cuda")
    return f"{sys.executable} -m pip install -e {Path(satellite.__file__).parent.parent}'[gpu]'"


def _libraries(demanded: Sequence[str]) -> list[Finding]:
    """Load what the engines need, as they do; that it is installed proves nothing."""
    wanted = State.BAD if demanded else State.NOTE
    findings = []
    missing = load_cublas()
    findings.append(
        Finding("cuda for stt", wanted, missing, _installed())
        if missing
        else Finding("cuda for stt", State.GOOD, f"cuBLAS 12 loads (CTranslate2 {metadata.version('ctranslate2')})")
    )
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        findings.append(Finding("cuda for tts", State.GOOD, f"ONNX Runtime {onnxruntime.__version__} is built for it"))
    else:
        seen = f"ONNX Runtime {onnxruntime.__version__} is the one for CPUs"
        findings.append(Finding("cuda for tts", wanted, seen, _installed()))
    return findings


def _memory(config: Config, gpu: dict[str, Any], *, loaded: bool) -> Finding:
    """Compare what our models need with what there is; `loaded` ones are part of what is used."""
    name = f"gpu {gpu.get('name', '')}".strip()
    if "memory_total_bytes" not in gpu:
        return Finding(name, State.NOTE, "does not tell its memory")
    specs = [spec for spec in wanted_models(config) if spec.kind.value in ("stt", "tts")]
    need = _MODEL_SHARE * sum(spec.size_bytes or 0 for spec in specs)
    total = gpu["memory_total_bytes"]
    free = total - gpu["memory_used_bytes"]
    seen = f"{free / 1e9:.1f} GB of {total / 1e9:.1f} GB are free; our models need {need / 1e9:.1f}"
    if (total if loaded else free) < need:
        seen += "; end who has it, or take a smaller stt.model, or device: cpu for one stage"
        return Finding(name, State.BAD, seen, "nvidia-smi")
    return Finding(name, State.GOOD, seen)


def _devices(state: dict[str, Any] | None, demanded: Sequence[str]) -> list[Finding]:
    return [
        Finding(
            f"gpu: {stage['stage']}",
            State.BAD if stage["stage"] in demanded else State.NOTE,
            "runs on the CPU though there is a GPU",
            _installed(),
        )
        for stage in (state or {}).get("stages", [])
        if str(stage.get("device", "")).startswith("cpu")
    ]


CHECKS = {"gpu": _gpu}
