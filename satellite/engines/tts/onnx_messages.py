"""The messages of an ONNX file, as far as splitting a graph needs them.

The package onnx would add 32 MB to every installation for this. Protocol Buffers keep the fields of a message that are
not declared, so that what is read and written again is complete.
"""

from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from satellite.languages import read_yaml

Message: TypeAlias = Any
"""A message of a file; Protocol Buffers make the classes at run time."""

_FIELDS = read_yaml("satellite.engines.tts", "onnx_messages.yaml")

_SCALARS = {
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}

_FLOAT = 1
"""TensorProto.DataType.FLOAT."""


def _classes() -> dict[str, type[Message]]:
    """Return the classes of the messages by name."""
    file = descriptor_pb2.FileDescriptorProto(name="satellite/onnx.proto", package="satellite.onnx")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            type_name = kind.removeprefix("*")
            added = message.field.add(name=field, number=number)
            added.label = added.LABEL_REPEATED if kind.startswith("*") else added.LABEL_OPTIONAL
            added.type = _SCALARS.get(type_name, added.TYPE_MESSAGE)
            if type_name not in _SCALARS:
                added.type_name = f".satellite.onnx.{type_name}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"satellite.onnx.{name}")) for name in _FIELDS
    }


_CLASSES = _classes()
Model = _CLASSES["Model"]
Value = _CLASSES["Value"]


def float_value(name: str) -> Message:
    """Return the declaration of a value of 32-bit floats of any shape."""
    value = Value(name=name)
    value.type.tensor_type.elem_type = _FLOAT
    return value
