"""A stand-in for PyTorch: what llama.cpp's convert_hf_to_gguf.py needs of it to bring float32
tensors from safetensors to a GGUF file, over NumPy.

PyTorch from PyPI brings gigabytes of CUDA libraries, for a conversion that copies and rounds.
models.py knows the hash of the file that the converter makes with PyTorch itself, so this one
can change no bit of it. What is not here is an AttributeError.
"""

import contextlib

import numpy

Size = tuple


class dtype:
    """An element type. NumPy has none of those of 8 bits and none that is bfloat16."""

    def __init__(self, name):
        self.name = name

    def numpy(self):
        return numpy.dtype(self.name)


float16, float32, float64 = dtype("float16"), dtype("float32"), dtype("float64")
bfloat16, float8_e4m3fn, float8_e5m2 = dtype("bfloat16"), dtype("float8_e4m3fn"), dtype("float8_e5m2")
uint8, int8, int16, int32, int64 = dtype("uint8"), dtype("int8"), dtype("int16"), dtype("int32"), dtype("int64")
bool = dtype("bool")


class Tensor:
    """An array of NumPy and the type of its elements."""

    def __init__(self, array, dtype):
        self.array, self.dtype = array, dtype

    @property
    def shape(self):
        return Size(self.array.shape)

    def view(self, dtype):
        return Tensor(self.array.view(dtype.numpy()), dtype)

    def reshape(self, shape):
        return Tensor(self.array.reshape(shape), self.dtype)

    def numpy(self):
        return self.array


def from_numpy(array):
    return Tensor(array, dtype(array.dtype.name))


def empty(size, dtype, device):
    """A tensor of device meta, which has a shape and no elements."""
    assert device == "meta", device
    one = numpy.zeros(1, dtype.numpy())
    return Tensor(numpy.lib.stride_tricks.as_strided(one, size, [0] * len(size)), dtype)


def inference_mode():
    return contextlib.nullcontext()
