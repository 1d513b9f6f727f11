"""Writes a GGUF file anew with its quantized weights as f16: half.py LLAMA_CPP IN OUT

Kernels round what they multiply with quantized weights to 8 bits, so that two computations of one
model differ by noise. With f16 they nearly agree, and a mistake shows.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
llama_cpp, source, target = map(Path, sys.argv[1:])
sys.path.insert(0, str(llama_cpp / "gguf-py"))

import gguf  # noqa: E402
import numpy  # noqa: E402

reader = gguf.GGUFReader(source)
writer = gguf.GGUFWriter(target, reader.fields[gguf.Keys.General.ARCHITECTURE].contents())
for field in reader.fields.values():
    if field.name.startswith("GGUF.") or field.name in (gguf.Keys.General.ARCHITECTURE, gguf.Keys.General.FILE_TYPE):
        continue
    array = field.types[0] == gguf.GGUFValueType.ARRAY
    writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=field.types[-1] if array else None)
writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
for tensor in reader.tensors:
    weights = gguf.dequantize(tensor.data, tensor.tensor_type)
    writer.add_tensor(tensor.name, weights.astype(numpy.float32 if weights.ndim == 1 else numpy.float16))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
