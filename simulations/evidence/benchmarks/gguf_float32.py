"""The same weights as a quantised GGUF, in float32: what separates rounding from conversion."""

from __future__ import annotations

from pathlib import Path


def write_float32(source: Path, target: Path) -> None:
    """Every field as it is, every tensor dequantised."""
    from gguf import GGUFReader, GGUFWriter
    from gguf.constants import GGUFValueType, Keys
    from gguf.quants import dequantize

    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields[Keys.General.ARCHITECTURE].contents())
    skipped = (Keys.General.ARCHITECTURE, Keys.General.FILE_TYPE)
    for field in reader.fields.values():
        if field.name not in skipped and not field.name.startswith("GGUF."):
            kind = field.types[0]
            inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
