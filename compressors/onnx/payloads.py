"""Bytes of an ONNX file's tensors, made of the stored ones when they are there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from paredown.compressors.onnx.plan import ExportError, Payload
from paredown.compressors.storage.packing import pack_codes, tensor_bytes
from paredown.compressors.storage.stored import StoredTensor


def dense_bytes(name: str, transposed: bool) -> Payload:
    """A stored tensor dense, codes as float32."""
    return lambda stored: tensor_bytes(_turned(stored[name].dense(), transposed))


def code_bytes(name: str, transposed: bool, bits: int) -> Payload:
    """Codes packed to the bit."""
    return lambda stored: pack_codes(_turned(stored[name].values, transposed), bits)


def scale_bytes(name: str, transposed: bool = False) -> Payload:
    """Scales of a stored tensor in float32."""

    def _payload(stored: Mapping[str, StoredTensor]) -> bytes:
        scale = scales_of(stored[name]).astype("<f4")
        return (scale.T if transposed else scale).tobytes()

    return _payload


def scales_of(stored: StoredTensor) -> np.ndarray:
    """Scales as an array.

    Raises:
        ExportError: The tensor has none.
    """
    if stored.scale is None:
        raise ExportError("a tensor of integer codes has no scale")
    return stored.scale.detach().numpy()


def _turned(tensor: Tensor, transposed: bool) -> Tensor:
    tensor = tensor.detach()
    return (tensor.transpose(-1, -2) if transposed else tensor).contiguous()
