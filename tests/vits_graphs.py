"""Small graphs of the form of Piper's voices, with random weights: any hop, any number of speakers."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SYMBOLS = 256
CHANNELS = 8


class Graph:
    """A graph that grows node by node; `add` returns the name of what a node makes."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._random = np.random.default_rng(seed)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weights(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(self._random.normal(0, scale, shape))

    def conv(self, value: str, kernel: int, into: int = CHANNELS, channels: int = CHANNELS) -> str:
        """Add a convolution that keeps the length."""
        scale = 1 / np.sqrt(kernel * channels)
        return self.add("Conv", value, self.weights(into, channels, kernel, scale=scale), pads=[kernel // 2] * 2)


def voice(
    hop: tuple[int, int] = (16, 16), speakers: int = 1, *, noise: bool = True, branch: bool = False, seed: int = 1
) -> bytes:
    """Return an ONNX model with Piper's inputs.

    `hop` are the factors of the decoder's transposed convolutions; without `noise` there is none to find z_p by;
    with `branch` a part of the flow stands in the branches of an `If`.
    """
    graph = Graph(seed)
    speaker = graph.add("Unsqueeze", graph.add("Gather", graph.weights(speakers, CHANNELS), "sid"), _axes(graph, 2))
    scales = [graph.add("Gather", "scales", graph.constant(at, np.int64)) for at in range(3)]
    z, mask = _front(graph, scales, noise)
    for _ in range(2):
        more = graph.add("Mul", graph.conv(z, 5), mask)
        if speakers > 1:
            more = graph.add("Add", more, speaker)
        more = graph.add("Tanh", more)
        z = _branched(graph, z, more) if branch else graph.add("Add", z, more)
    samples = graph.conv(graph.add("Mul", z, mask), 7)
    if speakers > 1:
        samples = graph.add("Add", samples, graph.conv(speaker, 1))
    for factor in hop:
        samples = graph.add("LeakyRelu", samples)
        weights = graph.weights(CHANNELS, CHANNELS, 2 * factor, scale=0.3)
        samples = graph.add("ConvTranspose", samples, weights, strides=[factor], pads=[factor // 2] * 2)
        samples = graph.add("Add", samples, graph.conv(samples, 3))
    graph.nodes.append(helper.make_node("Tanh", [graph.conv(samples, 7, into=1)], ["sound"]))
    inputs = [("input", TensorProto.INT64), ("input_lengths", TensorProto.INT64), ("scales", TensorProto.FLOAT)]
    if speakers > 1:
        inputs.append(("sid", TensorProto.INT64))
    else:
        graph.constants.append(numpy_helper.from_array(np.zeros(1, np.int64), "sid"))
    shapes = {"input": [1, None], "input_lengths": [1], "scales": [3], "sid": [1]}
    made = helper.make_graph(
        graph.nodes,
        "voice",
        [helper.make_tensor_value_info(name, kind, shapes[name]) for name, kind in inputs],
        [helper.make_tensor_value_info("sound", TensorProto.FLOAT, [1, 1, None])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def mms_voice(seed: int = 7) -> bytes:
    """Return a voice with the inputs and outputs of MMS' exports, whose scales are constants."""
    model = onnx.load_model_from_string(voice(seed=seed))
    for node in model.graph.node:
        node.input[:] = ["input_ids" if name == "input" else name for name in node.input]
    del model.graph.input[:]
    for name in ("input_ids", "attention_mask"):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, [1, None]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0.667, 1.0, 0.8], np.float32), "scales"))
    return bytes(model.SerializeToString())


def with_outputs(model: bytes, names: list[str]) -> bytes:
    changed = onnx.load_model_from_string(model)
    changed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    return bytes(changed.SerializeToString())


def _axes(graph: Graph, *axes: int) -> str:
    return graph.constant(axes, np.int64)


def _front(graph: Graph, scales: list[str], noise: bool) -> tuple[str, str]:
    """Add encoder, durations and noise; return z_p, or what stands for it, and the mask of frames."""
    noise_scale, length_scale, noise_w = scales
    encoded = graph.add("Transpose", graph.add("Gather", graph.weights(SYMBOLS, CHANNELS), "input"), perm=[0, 2, 1])
    base = graph.add("Gather", graph.constant(np.linspace(1.5, 5.5, SYMBOLS)), "input")
    if noise:
        drawn = graph.add("Abs", graph.add("Mul", graph.add("RandomNormalLike", base), noise_w))
        base = graph.add("Add", base, drawn)
    durations = graph.add("Ceil", graph.add("Mul", base, length_scale))
    ends = graph.add("CumSum", durations, graph.constant(1, np.int64))
    begins = graph.add("Sub", ends, durations)
    count = graph.add("Squeeze", graph.add("ReduceMax", ends, keepdims=0))
    frames = graph.add("Range", graph.constant(0.0), count, graph.constant(1.0))
    before = [
        graph.add(
            "Cast", graph.add("Less", frames, graph.add("Unsqueeze", edge, _axes(graph, 2))), to=TensorProto.FLOAT
        )
        for edge in (ends, begins)
    ]
    path = graph.add("Sub", *before)
    mask = graph.add("Cast", graph.add("Less", frames, count), to=TensorProto.FLOAT)
    mask = graph.add("Unsqueeze", mask, _axes(graph, 0, 1))
    mean = graph.add("MatMul", encoded, path)
    if not noise:
        return mean, mask
    deviation = graph.add("Exp", graph.add("MatMul", graph.add("Tanh", encoded), path))
    drawn = graph.add("Mul", graph.add("RandomNormalLike", mean), deviation)
    return graph.add("Add", mean, graph.add("Mul", drawn, noise_scale)), mask


def _branched(graph: Graph, left: str, right: str) -> str:
    """Add `left` and `right` within the branches of an `If`, which take both from outside."""
    bodies = {}
    for name in ("then_branch", "else_branch"):
        node = helper.make_node("Add", [left, right], [f"{name}{len(graph.nodes)}"])
        out = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        bodies[name] = helper.make_graph([node], name, [], [out])
    return graph.add("If", graph.constant(True, np.bool_), **bodies)
