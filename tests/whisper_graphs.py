"""Whisper with random weights and several languages, small enough to be made by a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_WIDTH, _MELS = 32, 80
_MULTILINGUAL_TOKENS, _END_OF_TEXT = 51_865, 50_257
"""As in OpenAI's multilingual models, which CTranslate2 knows by the empty token before the end of text."""

_SHAPES = {
    "conv1/weight": (_WIDTH, _MELS, 3),
    "conv2/weight": (_WIDTH, _WIDTH, 3),
    "self_attention/linear_0/weight": (3 * _WIDTH, _WIDTH),
    "attention/linear_1/weight": (2 * _WIDTH, _WIDTH),
    "self_attention/linear_1/weight": (_WIDTH, _WIDTH),
    "ffn/linear_0/weight": (4 * _WIDTH, _WIDTH),
    "ffn/linear_1/weight": (_WIDTH, 4 * _WIDTH),
    "linear_0/weight": (_WIDTH, _WIDTH),
    "linear_2/weight": (_WIDTH, _WIDTH),
    "embeddings/weight": (_MULTILINGUAL_TOKENS, _WIDTH),
    "projection/weight": (_MULTILINGUAL_TOKENS, _WIDTH),
    "layer_norm/gamma": (_WIDTH,),
    "layer_norm/beta": (_WIDTH,),
}


def save_multilingual(folder: Path, languages: Sequence[str]) -> None:
    """Save a model for CTranslate2 that knows `languages`."""
    from ctranslate2.specs import model_spec, whisper_spec

    random = np.random.default_rng(1)

    def weights(*shape: int) -> Any:
        return random.normal(0, 0.3, shape).astype(np.float32)

    def fill(layer: Any, name: str, value: object) -> None:
        if value is None:
            shape = next(shape for ending, shape in _SHAPES.items() if name.endswith(ending))
            setattr(layer, name.rpartition("/")[2], weights(*shape))

    spec = whisper_spec.WhisperSpec(1, 1, 1, 1)
    model_spec.visit_spec(spec, fill)
    spec.encoder.position_encodings.encodings = weights(1500, _WIDTH)
    spec.decoder.position_encodings.encodings = weights(448, _WIDTH)
    codes = [f"<|{language}|>" for language in languages]
    special = ["<|endoftext|>", "<|startoftranscript|>", *codes, "<|transcribe|>", "<|nospeech|>", "<|notimestamps|>"]
    tokens = [f"t{number}" for number in range(_MULTILINGUAL_TOKENS)]
    tokens[_END_OF_TEXT - 1 : _END_OF_TEXT + len(special)] = ["", *special]
    spec.register_vocabulary(tokens)
    spec.config.lang_ids = [tokens.index(code) for code in codes]
    spec.validate()
    spec.save(str(folder))
