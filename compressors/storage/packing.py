"""Codes packed to the bit, and the safetensors file that holds them beside their indices.

A code of b bits is a two's-complement field, of one bit its sign; fields follow one another from the
lowest bit of the first byte. ONNX packs its 4- and 2-bit tensors the same way, so both files share this
code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from paredown.compressors.storage.checking import check_values, read_storage
from paredown.compressors.storage.indices import INDICES, PackingError
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Storage

METADATA_KEY = "paredown"

TYPES: Mapping[str, str] = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "float32": "F32",
    "float64": "F64",
    "int64": "I64",
}
"""Types by the names of torch and of safetensors, in the order that safetensors sorts them in."""


def pack_codes(codes: Tensor, bits: int) -> bytes:
    """The codes as `bits`-wide two's-complement fields; ceil(n * bits / 8) bytes.

    One bit holds a sign: 1 stands for the code -1, 0 for 1.

    Raises:
        PackingError: A code does not fit.

    >>> pack_codes(torch.tensor([1, -1], dtype=torch.int8), 4).hex()
    'f1'
    """
    values = codes.detach().reshape(-1).numpy().astype(np.int8)
    if bits == 1 and not (abs(values) == 1).all():
        raise PackingError(f"codes of one bit must be -1 or 1, got {np.unique(values)[:4]}")
    limit = 1 << (bits - 1)
    if bits > 1 and values.size and (values.min() < -limit or values.max() >= limit):
        raise PackingError(f"codes must fit {bits} bits, got {values.min()}..{values.max()}")
    if bits == 8:
        return values.tobytes()
    values = values >> 1 if bits == 1 else values
    fields = np.unpackbits(values.view(np.uint8)[:, None], axis=1, bitorder="little", count=bits)
    return np.packbits(fields.reshape(-1), bitorder="little").tobytes()


def tensor_bytes(values: Tensor) -> bytes:
    """The values of any type as they lie in memory, little-endian.

    >>> tensor_bytes(torch.tensor([True, False])).hex()
    '0100'
    """
    return values.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def unpack_codes(data: np.ndarray, bits: int, count: int) -> Tensor:
    """The `count` int8 codes that `pack_codes` wrote; `data` is uint8."""
    if bits == 8:
        return torch.from_numpy(data[:count].view(np.int8).copy())
    # Eight codes fill `bits` whole bytes; read as one integer they are only shifts apart.
    groups = -(-count // 8)
    words = np.zeros((groups, 8), np.uint8)
    words[:, :bits] = np.resize(data, groups * bits).reshape(groups, bits)
    shifts = np.arange(8, dtype=np.uint64) * np.uint64(bits)
    fields = (words.view("<u8") >> shifts).astype(np.uint8).reshape(-1)[:count]
    room = 8 - bits
    codes = torch.from_numpy((fields << room).view(np.int8) >> room)
    return codes | 1 if bits == 1 else codes


def entries(name: str, storage: Storage) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The safetensors entries of one tensor: name -> (dtype, shape)."""
    if storage.bits == 32:
        shape = storage.shape if storage.index == "none" else (storage.kept,)
        kind = TYPES[storage.dtype]
        found: dict[str, tuple[str, tuple[int, ...]]] = {name: (kind, shape)}
    else:
        found = {
            f"{name}.codes": ("U8", (storage.payload_bytes,)),
            f"{name}.scale": ("F32", storage.scale_shape),
        }
    if storage.index != "none":
        found[f"{name}.index"] = ("U8", (storage.index_bytes,))
    return found


def metadata(storage: Mapping[str, Storage]) -> dict[str, str]:
    """The file's own description: every field of every storage that differs from the default."""
    return {
        METADATA_KEY: json.dumps({n: _brief(s) for n, s in storage.items()}, separators=(",", ":"))
    }


def write_packed(path: Path, stored: Mapping[str, StoredTensor]) -> None:
    """Writes the tensors, truly packed, to one safetensors file.

    Raises:
        PackingError: A tensor's values, mask or scale do not have the format its storage claims.
    """
    arrays: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        arrays |= _arrays(name, tensor)
    described = metadata({n: t.storage for n, t in stored.items()})
    # `save_file` makes the file its owner's alone; a bundle is to be handed on.
    path.write_bytes(save(arrays, metadata=described))


def read_packed(path: Path) -> dict[str, StoredTensor]:
    """The tensors that `write_packed` wrote, bit for bit.

    Raises:
        PackingError: The file was not written by `write_packed`, or is damaged.
        OSError: It cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
            if text is None:
                raise PackingError(
                    f"{path} holds no paredown tensors; read it with safetensors itself"
                )
            storage = read_storage(text, path.stat().st_size)
            found = {name: _stored(s, _read(file, name, s), name) for name, s in storage.items()}
    # What torch raises of an index that is no index.
    except (SafetensorError, ValueError, LookupError, RuntimeError) as error:
        raise PackingError(f"{path.name}: {error}") from error
    for name, tensor in found.items():
        check_values(name, tensor)
    return found


def _read(file: Any, name: str, storage: Storage) -> dict[str, Tensor]:
    """The entries of one tensor, each of the type and shape that its storage gives it."""
    found = {}
    for key, (kind, shape) in entries(name, storage).items():
        entry = file.get_slice(key)
        declared = entry.get_dtype(), tuple(entry.get_shape())
        if declared != (kind, shape):
            raise PackingError(f"{key!r} must be {kind} of {shape}, got {declared}")
        found[key] = file.get_tensor(key)
    return found


def _brief(storage: Storage) -> dict[str, object]:
    default = Storage(shape=(), kept=0)
    return {
        key: value
        for key, value in asdict(storage).items()
        if key in ("shape", "kept") or value != getattr(default, key)
    }


def _arrays(name: str, tensor: StoredTensor) -> dict[str, Tensor]:
    storage = tensor.storage
    values = tensor.values.detach()
    _check(name, tensor)
    kept = values.reshape(-1) if tensor.mask is None else values[tensor.mask]
    if storage.bits == 32:
        payload = kept.contiguous()
        dense = storage.index == "none"
        arrays = {name: payload.reshape(storage.shape) if dense else payload}
    else:
        assert tensor.scale is not None
        arrays = {
            f"{name}.codes": _byte_tensor(pack_codes(kept, storage.bits)),
            f"{name}.scale": tensor.scale.detach().to(torch.float32).contiguous(),
        }
    if tensor.mask is not None:
        # Blocks and groups of four run along the inputs, so the output dimension goes first.
        pack, _ = INDICES[storage.index]
        arrays[f"{name}.index"] = torch.from_numpy(pack(tensor.mask.movedim(storage.axis, 0)))
    return arrays


def _byte_tensor(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


def _check(name: str, tensor: StoredTensor) -> None:
    storage = tensor.storage
    kept = storage.count if tensor.mask is None else int(tensor.mask.sum())
    facts = {
        "shape": tuple(tensor.values.shape) == storage.shape,
        "dtype": storage.bits < 32 or str(tensor.values.dtype) == f"torch.{storage.dtype}",
        "mask": (tensor.mask is None) == (storage.index == "none"),
        "kept": kept == storage.kept,
        "scale": (tensor.scale is None) == (storage.bits == 32)
        and (tensor.scale is None or tuple(tensor.scale.shape) == storage.scale_shape),
        "zeros": tensor.mask is None or not bool(tensor.values[~tensor.mask].any()),
    }
    wrong = [what for what, holds in facts.items() if not holds]
    if wrong:
        raise PackingError(f"tensor {name!r} does not match its storage {storage} in {wrong}")


def _stored(storage: Storage, arrays: Mapping[str, Tensor], name: str) -> StoredTensor:
    mask = None
    if storage.index != "none":
        rest = list(storage.shape)
        turned = (rest.pop(storage.axis), *rest)
        _, unpack = INDICES[storage.index]
        mask = unpack(arrays[f"{name}.index"].numpy(), turned).movedim(0, storage.axis)
    if storage.bits == 32:
        kept, scale = arrays[name], None
    else:
        kept = unpack_codes(arrays[f"{name}.codes"].numpy(), storage.bits, storage.kept)
        scale = arrays[f"{name}.scale"]
    if mask is None:
        return StoredTensor(storage=storage, values=kept.reshape(storage.shape), scale=scale)
    values = torch.zeros(storage.shape, dtype=kept.dtype)
    values[mask] = kept
    return StoredTensor(storage=storage, values=values, scale=scale, mask=mask)
