"""Meta's MMS voices, in the ONNX exports of Xenova: more languages, for non-commercial use alone."""

from satellite.models.spec import File, HubSource, Kind, ModelSpec

_LANGUAGES = {
    "ara": "ar",
    "deu": "de_DE",
    "eng": "en",
    "fra": "fr_FR",
    "hin": "hi_IN",
    "por": "pt",
    "ron": "ro_RO",
    "rus": "ru_RU",
    "spa": "es",
    "vie": "vi_VN",
    "yor": "yo",
}
"""By MMS' own codes. Without Korean, which has to be written in Latin letters first."""

_APPROXIMATE_BYTES = 114_000_000

_BESIDE = ("config.json", "vocab.json", "tokenizer_config.json")


def mms_voices() -> list[ModelSpec]:
    """Return the specs of the voices."""
    return [_voice(code, language) for code, language in _LANGUAGES.items()]


def mms_files() -> tuple[File, ...]:
    """Return the files of a voice, the network first."""
    network = File("model.onnx", _APPROXIMATE_BYTES, in_repository="onnx/model.onnx")
    return (network, *(File(name, 0) for name in _BESIDE))


def _voice(code: str, language: str) -> ModelSpec:
    return ModelSpec(
        Kind.TTS,
        f"mms-tts-{code}",
        f"MMS voice of facebook/mms-tts-{code}",
        "CC BY-NC 4.0 (non-commercial)",
        (language,),
        HubSource(f"Xenova/mms-tts-{code}"),
        mms_files(),
        by_characters=True,
    )
