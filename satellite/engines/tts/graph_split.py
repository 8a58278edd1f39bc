"""Splits a VITS graph, as exported by Piper, in three: front end, flow and decoder.

    text ids --front--> z_p --flow--> z --decoder--> samples

The front end (text encoder, durations, noise) needs the whole sentence. Flow and decoder are convolutions: their output
for a frame depends on its neighbours alone, so that they can run over a window of frames. The places to cut are found
by the graph's structure, after "Conditional Variational Autoencoder with Adversarial Learning for End-to-End
Text-to-Speech" (Kim, Kong and Son, 2021), section 2: z_p is where noise is added to the prior's mean, and the decoder
begins with the convolution before its first transposed one. Names of nodes mean nothing: exporters choose them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from satellite.engines.tts.onnx_messages import Message, Model, Value, float_value


class CannotSplit(Exception):
    """The graph has not the form that can be split."""


@dataclass(frozen=True, slots=True)
class GraphParts:
    """The parts as ONNX models, serialised.

    The front end's first output is z_p, the flow's first input; the flow's one output is the decoder's first input.
    Further inputs of flow and decoder (the mask of frames, the speaker) are outputs of the front end of the same name.
    """

    front: bytes
    flow: bytes
    decoder: bytes
    flow_reach: tuple[int, int]
    decoder_reach: tuple[int, int]
    """How many frames before and after a frame its value depends on."""


def split(model: bytes) -> GraphParts:
    """Split a serialised ONNX model. Raises `CannotSplit`."""
    try:
        return _Graph(Model.FromString(model)).parts()
    except DecodeError as error:
        raise CannotSplit(f"it cannot be read: {error}") from error


class _Graph:
    def __init__(self, model: Message) -> None:
        self._model = model
        self._nodes = list(model.graph.node)
        """Sorted so that each node comes after those that it needs, as ONNX requires."""

        self._producer = {output: node for node in self._nodes for output in node.output}
        random = (output for node in self._nodes if node.op_type.startswith("Random") for output in node.output)
        self._varying = self._after([*(value.name for value in model.graph.input), *random])
        """What depends on the text or on random numbers; the rest is constant."""

    def parts(self) -> GraphParts:
        """Return the parts."""
        prior = self._prior()
        after_prior = self._after([prior])
        start = self._decoder_start(after_prior)
        output = self._model.graph.output[0].name  # a second one would be the durations
        after_start = self._after([start])
        if output not in after_start:
            raise CannotSplit("its output does not come from its decoder")
        to_flow = self._crossing(after_prior - after_start | {start}, prior, after_prior)
        to_decoder = self._crossing(after_start, start, after_prior)
        crossing = list(dict.fromkeys((*to_flow, *to_decoder)))
        return GraphParts(
            self._part([value.name for value in self._model.graph.input], [prior, *crossing]),
            self._part([prior, *to_flow], [start]),
            self._part([start, *to_decoder], [output]),
            self._reach(prior, start),
            self._reach(start, output),
        )

    def _prior(self) -> str:
        """Return z_p, the sum after the last noise: its shape is that of the frames, which are known last."""
        noise = [node for node in self._nodes if node.op_type == "RandomNormalLike"]
        if not noise:
            raise CannotSplit("it adds no noise")
        name = noise[-1].output[0]
        while True:
            consumers = [node for node in self._nodes if name in node.input]
            if len(consumers) != 1:
                raise CannotSplit("its noise has several consumers")
            name = consumers[0].output[0]
            if consumers[0].op_type == "Add":
                return str(name)

    def _decoder_start(self, after_prior: set[str]) -> str:
        """Return the input of the convolution before the first transposed one."""
        transposed = (node for node in self._nodes if node.op_type == "ConvTranspose" and node.input[0] in after_prior)
        node = next(transposed, None)
        while node is not None:
            name = next((name for name in node.input if name in after_prior), "")
            node = self._producer.get(name) if name else None
            if node is not None and node.op_type == "Conv" and node.input[0] in after_prior:
                return str(node.input[0])
        raise CannotSplit("it has no decoder of transposed convolutions")

    def _crossing(self, part: set[str], start: str, after_prior: set[str]) -> list[str]:
        """Return the inputs of a part besides `start` and constants; all must come from the front end."""
        nodes = [node for node in self._nodes if part.intersection(node.output) and start not in node.output]
        needed = dict.fromkeys(name for node in nodes for name in _inputs_of(node) if name in self._varying)
        crossing = [name for name in needed if name not in part and name != start]
        if after_prior.intersection(crossing):
            raise CannotSplit("its flow and decoder are connected at several places")
        return crossing

    def _after(self, names: Iterable[str]) -> set[str]:
        """Return `names` and all that depends on them."""
        reached = set(names)
        for node in self._nodes:
            if not reached.isdisjoint(_inputs_of(node)):
                reached.update(node.output)
        return reached

    def _reach(self, begin: str, end: str) -> tuple[int, int]:
        """Return on how many frames of `begin` on each side a frame of `end` depends."""
        kernels = {one.name: one.dims[-1] for one in self._model.graph.initializer if one.dims}
        try:
            return _receptive_field(self._between([begin], [end])[0], kernels, begin)
        except KeyError as error:
            raise CannotSplit(f"the size of its kernel {error} is unknown") from error

    def _part(self, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
        """Return a model of the nodes between `inputs` and `outputs`, with the constants that they need."""
        nodes, wanted = self._between(inputs, outputs)
        graph = self._model.graph
        declared = {value.name: value for value in (*graph.input, *graph.output)}
        part = Model(ir_version=self._model.ir_version, opset_import=self._model.opset_import)
        part.graph.name = "part"
        part.graph.node.extend(nodes)
        # The types of other values are known to ONNX Runtime alone. All that crosses from part to part of a VITS graph
        # are floats; a part that is given anything else does not load, and the voice is not split.
        part.graph.input.extend(declared.get(name) or float_value(name) for name in inputs if name in wanted)
        part.graph.output.extend(declared.get(name) or Value(name=name) for name in outputs)
        part.graph.initializer.extend(constant for constant in graph.initializer if constant.name in wanted)
        return bytes(part.SerializeToString())

    def _between(self, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[list[Message], set[str]]:
        """Return the nodes that compute `outputs` from `inputs` and constants, and all names that they use."""
        wanted, nodes = set(outputs), []
        for node in reversed(self._nodes):
            if (wanted - set(inputs)).intersection(node.output):
                nodes.append(node)
                wanted.update(_inputs_of(node))
        return nodes[::-1], wanted


@dataclass(frozen=True, slots=True)
class _Receptive:
    left: float = 0.0
    right: float = 0.0
    """Frames before and after."""

    rate: int = 1
    """Values per frame."""


def _receptive_field(nodes: Sequence[Message], kernels: Mapping[str, int], start: str) -> tuple[int, int]:
    """Return on how many frames of `start` before and after a frame the outputs of `nodes` depend.

    `nodes` are sorted; `kernels` has the lengths of the weights by name. Only convolutions are taken to look beyond a
    frame; `vits.measure` verifies that nothing else does.
    """
    seen = {start: _Receptive()}
    for node in nodes:
        inputs = [seen[name] for name in _inputs_of(node) if name in seen]
        if not inputs:
            continue
        joined = _Receptive(
            max(one.left for one in inputs), max(one.right for one in inputs), max(one.rate for one in inputs)
        )
        if node.op_type == "Conv":
            joined = _convolved(node, joined, kernels)
        elif node.op_type == "ConvTranspose":
            joined = _transposed(node, joined, kernels)
        seen.update(dict.fromkeys(node.output, joined))
    return math.ceil(max(one.left for one in seen.values())), math.ceil(max(one.right for one in seen.values()))


def _inputs_of(node: Message) -> list[str]:
    """Return the names that `node` uses, including those that its branches take from outside."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            made = {output for inner in graph.node for output in inner.output} | {one.name for one in graph.initializer}
            names += [name for inner in graph.node for name in _inputs_of(inner) if name not in made]
            names += [value.name for value in graph.output if value.name not in made]
    return names


def _convolved(node: Message, seen: _Receptive, kernels: Mapping[str, int]) -> _Receptive:
    kernel, _, dilation, padding = _kernel_shape(node, kernels)
    span = (kernel - 1) * dilation
    return _Receptive(seen.left + padding / seen.rate, seen.right + (span - padding) / seen.rate, seen.rate)


def _transposed(node: Message, seen: _Receptive, kernels: Mapping[str, int]) -> _Receptive:
    """Value i of the input is added to the values i * stride - padding + 0 ... kernel - 1 of the output."""
    kernel, stride, dilation, padding = _kernel_shape(node, kernels)
    span = (kernel - 1) * dilation
    rate = seen.rate * stride
    return _Receptive(seen.left + max(0, span - padding) / rate, seen.right + (padding + stride - 1) / rate, rate)


def _kernel_shape(node: Message, kernels: Mapping[str, int]) -> tuple[int, int, int, int]:
    """Return kernel, stride, dilation and padding at the beginning."""
    given = {attribute.name: attribute.ints[0] for attribute in node.attribute if attribute.ints}
    kernel = given.get("kernel_shape") or kernels[node.input[1]]
    return kernel, given.get("strides", 1), given.get("dilations", 1), given.get("pads", 0)
