"""A voice's network run in parts: the front end once a sentence, flow and decoder over windows of its frames."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from satellite.engines.tts.graph_split import CannotSplit, GraphParts

Array = np.ndarray[Any, np.dtype[Any]]
Samples = np.ndarray[Any, np.dtype[np.float32]]
"""Mono, as the network gives them, without gain."""

Feed = Mapping[str, Array]
"""The inputs of a voice by name: ids of phonemes, their number, scales, the speaker."""

_MOST_DIFFERENCE = 1e-3
"""Between windows and the whole, of full scale."""

_PROBE_FRAMES = 160
_FEW_FRAMES = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """What has to be known of a network to run it in windows; found by running it."""

    hop: int
    """Samples a frame."""

    framed: tuple[str, ...]
    """Those outputs of the front end that have a value for every frame, along the last axis."""

    flow_left: int
    flow_right: int
    decoder_left: int
    decoder_right: int
    """Frames that a window needs beside it."""

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


class VitsNetwork:
    """The three parts of a voice, as ONNX Runtime sessions."""

    def __init__(self, front: Any, flow: Any, decoder: Any, shape: Shape) -> None:
        """Join the sessions of `graph.GraphParts`."""
        self.shape = shape
        self._front = front
        self._flow = flow
        self._decoder = decoder
        self._front_inputs = [value.name for value in front.get_inputs()]
        self._front_outputs = [value.name for value in front.get_outputs()]
        self._flow_inputs = [value.name for value in flow.get_inputs()]
        self._decoder_inputs = [value.name for value in decoder.get_inputs()]

    def sentence(self, feed: Feed) -> "Sentence":
        """Run the front end; blocking, as all here."""
        return Sentence(self, self.latent(feed))

    def latent(self, feed: Feed) -> dict[str, Array]:
        """Return what the front end makes of a sentence, z_p first."""
        inputs = {name: feed[name] for name in self._front_inputs}
        return dict(zip(self._front_outputs, self._front.run(None, inputs), strict=True))

    def flow(self, latent: Mapping[str, Array], begin: int, end: int) -> Array:
        """Return z of the frames from `begin` to `end`, made of these frames alone."""
        z: Array = self._flow.run(None, self._inputs(self._flow_inputs, latent, begin, end))[0]
        return z

    def decode(self, latent: Mapping[str, Array], z: Array, begin: int, end: int) -> Samples:
        """Return the samples of `z`, which are the frames from `begin` to `end`."""
        inputs = self._inputs(self._decoder_inputs[1:], latent, begin, end)
        samples: Samples = self._decoder.run(None, {self._decoder_inputs[0]: z, **inputs})[0].reshape(-1)
        return samples

    def _inputs(self, names: list[str], latent: Mapping[str, Array], begin: int, end: int) -> dict[str, Array]:
        framed = self.shape.framed
        return {name: latent[name][..., begin:end] if name in framed else latent[name] for name in names}


class Sentence:
    """One sentence, whose sound can be had from its beginning to its end, in windows of any length."""

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
        """Return z of the frames from `first` to `last`, of which some may be there from the window before."""
        shape = self._network.shape
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


def measured(front: Any, flow: Any, decoder: Any, parts: GraphParts, long: Feed, short: Feed) -> VitsNetwork:
    """Return the network of sessions of `parts`, tried by two texts of which `long` is a sentence of some seconds.

    Raises `CannotSplit` where windows give another sound than the whole.
    """
    network = VitsNetwork(front, flow, decoder, Shape(0, (), *parts.flow_reach, *parts.decoder_reach))
    network.shape = _framed(network, long, short)
    latent = network.latent(long)
    frames = min(_PROBE_FRAMES, network.sentence(long).frames)
    latent = {name: value[..., :frames] if name in network.shape.framed else value for name, value in latent.items()}
    whole = network.decode(latent, network.flow(latent, 0, frames), 0, frames)
    sentence = Sentence(network, latent)
    windows = [sentence.samples(at, min(at + 32, frames)) for at in range(0, frames, 32)]
    difference = float(np.max(np.abs(np.concatenate(windows) - whole)))
    if not difference <= _MOST_DIFFERENCE:
        raise CannotSplit(f"its windows differ from the whole by {difference:.1g}")
    return network


def _framed(network: VitsNetwork, long: Feed, short: Feed) -> Shape:
    """Return which values go along with the frames, and how many samples a frame has."""
    latents = [network.latent(feed) for feed in (long, short)]
    counts = [next(iter(latent.values())).shape[-1] for latent in latents]
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
