"""A voice's network in parts: the front end runs once for a sentence, flow and decoder over windows of its frames."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from satellite.engines.onnx_session import OnnxSession
from satellite.engines.tts.graph_split import CannotSplit, GraphParts

Array = NDArray[np.generic]
Samples = NDArray[np.float32]
"""Mono, without gain."""

Inputs = Mapping[str, Array]
"""The inputs of a voice by name: ids of phonemes, their number, scales, the speaker."""

_MAX_DIFFERENCE = 1e-3
"""Between windows and the whole, as a share of full scale."""

_PROBE_FRAMES = 160
_FEW_FRAMES = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """What running a network in windows requires; found by running it."""

    hop: int
    """Samples a frame."""

    framed: tuple[str, ...]
    """Outputs of the front end with a value for each frame, along the last axis."""

    flow_left: int
    flow_right: int
    decoder_left: int
    decoder_right: int
    """Further frames that a window needs on each side."""


class VitsNetwork:
    """The three parts of a voice, as ONNX Runtime sessions."""

    def __init__(self, front: OnnxSession, flow: OnnxSession, decoder: OnnxSession, shape: Shape) -> None:
        """Join the sessions of `graph_split.GraphParts`."""
        self.shape = shape
        self._front = front
        self._flow = flow
        self._decoder = decoder
        self._front_inputs = [value.name for value in front.get_inputs()]
        self._front_outputs = [value.name for value in front.get_outputs()]
        self._flow_inputs = [value.name for value in flow.get_inputs()]
        self._decoder_inputs = [value.name for value in decoder.get_inputs()]

    def sentence(self, inputs: Inputs) -> "Sentence":
        """Run the front end; blocking, as all methods here."""
        return Sentence(self, self.latent(inputs))

    def latent(self, inputs: Inputs) -> dict[str, Array]:
        """Return the front end's outputs for a sentence, z_p first."""
        needed = {name: inputs[name] for name in self._front_inputs}
        return dict(zip(self._front_outputs, self._front.run(None, needed), strict=True))

    def flow(self, latent: Mapping[str, Array], begin: int, end: int) -> Array:
        """Return z of the frames from `begin` to `end`, computed from these frames alone."""
        z: Array = self._flow.run(None, self._inputs(self._flow_inputs, latent, begin, end))[0]
        return z

    def decode(self, latent: Mapping[str, Array], z: Array, begin: int, end: int) -> Samples:
        """Return the samples of `z`, which holds the frames from `begin` to `end`."""
        inputs = self._inputs(self._decoder_inputs[1:], latent, begin, end)
        samples: Samples = self._decoder.run(None, {self._decoder_inputs[0]: z, **inputs})[0].reshape(-1)
        return samples

    def _inputs(self, names: list[str], latent: Mapping[str, Array], begin: int, end: int) -> dict[str, Array]:
        framed = self.shape.framed
        return {name: latent[name][..., begin:end] if name in framed else latent[name] for name in names}


class Sentence:
    """One sentence; its sound is computed from beginning to end, in windows of any length."""

    def __init__(self, network: VitsNetwork, latent: Mapping[str, Array]) -> None:
        self.frames: int = next(iter(latent.values())).shape[-1]
        self._network = network
        self._latent = latent
        self._z: Array | None = None
        self._z_begin = self._z_end = 0

    def samples(self, begin: int, end: int) -> Samples:
        """Return the sound of the frames from `begin` to `end`, 0 <= begin < end <= frames."""
        shape = self._network.shape
        first, last = max(0, begin - shape.decoder_left), min(self.frames, end + shape.decoder_right)
        z = self._flowed(first, last)
        samples = self._network.decode(self._latent, z, first, last)
        if len(samples) != (last - first) * shape.hop:
            raise ValueError(f"{last - first} frames gave {len(samples)} samples, not {shape.hop} each")
        return samples[(begin - first) * shape.hop : (end - first) * shape.hop]

    def _flowed(self, first: int, last: int) -> Array:
        """Return z of the frames from `first` to `last`."""
        shape = self._network.shape
        # Windows overlap by what the decoder needs at their sides: those frames are there from the one before.
        if self._z is None or not self._z_begin <= first <= self._z_end:
            self._z, self._z_begin, self._z_end = None, first, first
        if last > self._z_end:
            begin, end = max(0, self._z_end - shape.flow_left), min(self.frames, last + shape.flow_right)
            more = self._network.flow(self._latent, begin, end)[..., self._z_end - begin : last - begin]
            self._z = more if self._z is None else np.concatenate((self._z, more), axis=-1)
            self._z_end = last
        assert self._z is not None
        self._z, self._z_begin = self._z[..., first - self._z_begin :], first
        return self._z[..., : last - first]


def measure(
    front: OnnxSession, flow: OnnxSession, decoder: OnnxSession, parts: GraphParts, long: Inputs, short: Inputs
) -> VitsNetwork:
    """Return the network of the sessions of `parts`, tried on two texts, of which `long` takes some seconds.

    Raises `CannotSplit` if windows sound different from the whole.
    """
    network = VitsNetwork(front, flow, decoder, Shape(0, (), *parts.flow_reach, *parts.decoder_reach))
    network.shape = _shape(network, long, short)
    latent = network.latent(long)
    frames = min(_PROBE_FRAMES, network.sentence(long).frames)
    latent = {name: value[..., :frames] if name in network.shape.framed else value for name, value in latent.items()}
    whole = network.decode(latent, network.flow(latent, 0, frames), 0, frames)
    sentence = Sentence(network, latent)
    # Proves that nothing but convolutions looks beyond a frame, which the graph alone does not show.
    windows = [sentence.samples(at, min(at + 32, frames)) for at in range(0, frames, 32)]
    difference = float(np.max(np.abs(np.concatenate(windows) - whole)))
    if not difference <= _MAX_DIFFERENCE:  # also if it is NaN
        raise CannotSplit(f"its windows differ from the whole by {difference:.1g}")
    return network


def _shape(network: VitsNetwork, long: Inputs, short: Inputs) -> Shape:
    """Return which outputs grow with the frames, and how many samples a frame has."""
    latents = [network.latent(inputs) for inputs in (long, short)]
    counts = [next(iter(latent.values())).shape[-1] for latent in latents]
    # With two lengths, no output is taken for one of frames by chance.
    if counts[0] == counts[1]:
        raise CannotSplit("its frames do not grow with the text")
    framed = tuple(
        name
        for name in latents[0]
        if all(latent[name].ndim and latent[name].shape[-1] == n for latent, n in zip(latents, counts, strict=True))
    )
    network.shape = replace(network.shape, framed=framed)
    frames = min(counts[0], _FEW_FRAMES)
    samples = network.decode(latents[0], network.flow(latents[0], 0, frames), 0, frames)
    hop, rest = divmod(len(samples), frames)
    if rest or not hop:
        raise CannotSplit(f"{frames} frames have {len(samples)} samples")
    return replace(network.shape, hop=hop)
