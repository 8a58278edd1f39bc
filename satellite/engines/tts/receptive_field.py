"""How far the frames lie that a frame depends on: what the convolutions of a part see, by their kernels.

Everything else in a flow or a decoder works on each moment by itself; whether that holds is seen by running it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class _Seen:
    left: float = 0.0
    right: float = 0.0
    """Frames that are seen before and behind."""

    rate: int = 1
    """Values a frame."""


def reach(nodes: Sequence[Any], kernels: Mapping[str, int], start: str) -> tuple[int, int]:
    """Return how many frames of `start` before and behind a frame what `nodes` make of it depends on.

    `nodes` are in order; `kernels` has the lengths of the weights by name.
    """
    seen = {start: _Seen()}
    for node in nodes:
        inputs = [seen[name] for name in needs(node) if name in seen]
        if not inputs:
            continue
        joined = _Seen(
            max(one.left for one in inputs), max(one.right for one in inputs), max(one.rate for one in inputs)
        )
        if node.op_type == "Conv":
            joined = _convolved(node, joined, kernels)
        elif node.op_type == "ConvTranspose":
            joined = _transposed(node, joined, kernels)
        seen.update(dict.fromkeys(node.output, joined))
    return math.ceil(max(one.left for one in seen.values())), math.ceil(max(one.right for one in seen.values()))


def needs(node: Any) -> list[str]:
    """Return the names that `node` uses, those that its branches take from outside included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            made = {output for inner in graph.node for output in inner.output} | {one.name for one in graph.initializer}
            names += [name for inner in graph.node for name in needs(inner) if name not in made]
            names += [value.name for value in graph.output if value.name not in made]
    return names


def _convolved(node: Any, seen: _Seen, kernels: Mapping[str, int]) -> _Seen:
    kernel, _, dilation, padding = _shape(node, kernels)
    span = (kernel - 1) * dilation
    return _Seen(seen.left + padding / seen.rate, seen.right + (span - padding) / seen.rate, seen.rate)


def _transposed(node: Any, seen: _Seen, kernels: Mapping[str, int]) -> _Seen:
    """Value i of the input is added to the values i * stride - padding + 0 ... kernel - 1 of the output."""
    kernel, stride, dilation, padding = _shape(node, kernels)
    span = (kernel - 1) * dilation
    rate = seen.rate * stride
    return _Seen(seen.left + max(0, span - padding) / rate, seen.right + (padding + stride - 1) / rate, rate)


def _shape(node: Any, kernels: Mapping[str, int]) -> tuple[int, int, int, int]:
    """Return kernel, stride, dilation and padding at the beginning."""
    told = {attribute.name: attribute.ints[0] for attribute in node.attribute if attribute.ints}
    kernel = told.get("kernel_shape") or kernels[node.input[1]]
    return kernel, told.get("strides", 1), told.get("dilations", 1), told.get("pads", 0)
