"""A small graph with Kokoro's inputs, whose sound shows what it was given."""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from tests.vits_graphs import Graph

SAMPLES_A_SYMBOL = 100


def write_network(folder: Path) -> Path:
    """Write one that makes a square wave of 100 samples a symbol, as high as the style's first value and the speed."""
    graph = Graph(1)
    flat = graph.add("Mul", graph.add("Cast", "tokens", to=TensorProto.FLOAT), graph.constant(0))
    level = graph.add("Mul", graph.add("Gather", "style", graph.constant([0], np.int64), axis=1), "speed")
    values = graph.add("Unsqueeze", graph.add("Add", flat, level), graph.constant([1], np.int64))
    wave = graph.constant(np.resize(np.repeat([1.0, -1.0], 10), (1, 1, SAMPLES_A_SYMBOL)))
    graph.nodes.append(helper.make_node("ConvTranspose", [values, wave], ["audio"], strides=[SAMPLES_A_SYMBOL]))
    made = helper.make_graph(
        graph.nodes,
        "kokoro",
        [
            helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, None]),
            helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
            helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, 1, None])],
        graph.constants,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    (folder / "kokoro.onnx").write_bytes(model.SerializeToString())
    symbols = " .,!?;:abdefhijklmnopstuvwzæðŋɑɔəɛɡɪɹɾʁʃʊʌʒθˈˌːʤʧAIOWYTᵊ\u0303"
    (folder / "vocab.json").write_text(json.dumps({"vocab": {symbol: at + 1 for at, symbol in enumerate(symbols)}}))
    return folder


def write_style(file: Path, scale: float = 1.0) -> Path:
    """Write a style in which the values of the row for n symbols are n * `scale` / 1000."""
    rows = np.arange(1, 511, dtype="<f4") * scale / 1000
    file.write_bytes(np.repeat(rows, 256).astype("<f4").tobytes())
    return file
