"""Codes, masks and positions packed to the bit, and the safetensors file that holds them.

A code of b bits is a two's-complement field; fields follow one another from the lowest bit of the
first byte. ONNX packs its 4- and 2-bit tensors the same way, so both files share this code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from paredown.compressors.stored import StoredTensor
from paredown.spaces.blueprint import Storage

METADATA_KEY = "paredown"
_GROUP = 4  # 2:4 sparsity keeps two of every four


class PackingError(ValueError):
    """A tensor does not have the format its storage describes, or a file is not one of ours."""


def pack_codes(codes: Tensor, bits: int) -> bytes:
    """The codes as `bits`-wide two's-complement fields; ceil(n * bits / 8) bytes.

    Raises:
        PackingError: A code does not fit.

    >>> pack_codes(torch.tensor([1, -1], dtype=torch.int8), 4).hex()
    'f1'
    """
    values = codes.detach().reshape(-1).numpy().astype(np.int8)
    limit = 1 << (bits - 1)
    if values.size and (int(values.min()) < -limit or int(values.max()) >= limit):
        raise PackingError(f"codes must fit {bits} bits, got {values.min()}..{values.max()}")
    if bits == 8:
        return values.tobytes()
    fields = np.unpackbits(values.view(np.uint8)[:, None], axis=1, bitorder="little", count=bits)
    return np.packbits(fields.reshape(-1), bitorder="little").tobytes()


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
    return torch.from_numpy((fields << room).view(np.int8) >> room)


def pack_mask(mask: Tensor) -> np.ndarray:
    """One bit per value, lowest bit first, uint8."""
    return np.packbits(mask.reshape(-1).numpy(), bitorder="little")


def unpack_mask(data: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """The boolean mask that `pack_mask` wrote."""
    count = int(np.prod(shape, dtype=np.int64))
    bits = np.unpackbits(data, bitorder="little", count=count)
    return torch.from_numpy(bits.astype(bool)).reshape(shape)


def pack_positions(mask: Tensor) -> np.ndarray:
    """Two bits per kept value: where it stands in its group of four along the flattened inputs.

    Args:
        mask: (out, ...) with two of every four kept in each row; a tail of fewer than four is
            dense and has positions too, so every kept value costs the same two bits.

    Raises:
        PackingError: A group of four keeps more or fewer than two.
    """
    rows = mask.reshape(mask.shape[0], -1).numpy()
    grouped = rows[:, : rows.shape[1] // _GROUP * _GROUP].reshape(rows.shape[0], -1, _GROUP)
    if not (grouped.sum(axis=2) == 2).all() or not rows[:, grouped.shape[1] * _GROUP :].all():
        raise PackingError(
            "a 2:4 mask keeps two of every four along the inputs and the whole tail"
        )
    positions = np.nonzero(rows)[1] % _GROUP
    return np.packbits(_two_bits(positions), bitorder="little")


def unpack_positions(data: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """The mask that `pack_positions` wrote."""
    out = shape[0]
    columns = int(np.prod(shape[1:], dtype=np.int64))
    groups, tail = divmod(columns, _GROUP)
    kept = groups * 2 + tail
    bits = np.unpackbits(data, bitorder="little", count=2 * out * kept).reshape(-1, 2)
    positions = (bits[:, 0] + 2 * bits[:, 1]).reshape(out, kept).astype(np.int64)
    starts = np.concatenate([np.repeat(np.arange(groups), 2), np.full(tail, groups)]) * _GROUP
    mask = np.zeros((out, columns), dtype=bool)
    mask[np.arange(out)[:, None], positions + starts] = True
    return torch.from_numpy(mask).reshape(shape)


def entries(name: str, storage: Storage) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The safetensors entries of one tensor: name -> (dtype, shape)."""
    if storage.bits == 32:
        shape = storage.shape if storage.index == "none" else (storage.kept,)
        found: dict[str, tuple[str, tuple[int, ...]]] = {name: ("F32", shape)}
    else:
        found = {
            f"{name}.codes": ("U8", (storage.payload_bytes,)),
            f"{name}.scale": ("F32", (storage.scale_count,)),
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
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in stored.items():
        arrays |= _arrays(name, tensor)
    described = metadata({n: t.storage for n, t in stored.items()})
    # `save_file` makes the file its owner's alone; a bundle is to be handed on.
    path.write_bytes(save(arrays, metadata=described))


def read_packed(path: Path) -> dict[str, StoredTensor]:
    """The tensors that `write_packed` wrote, bit for bit.

    Raises:
        PackingError: The file was not written by `write_packed`.
    """
    with safe_open(path, framework="np") as file:
        text = (file.metadata() or {}).get(METADATA_KEY)
        if text is None:
            raise PackingError(
                f"{path} holds no paredown tensors; read it with safetensors itself"
            )
        storage = {
            name: Storage(**{**brief, "shape": tuple(brief["shape"])})
            for name, brief in json.loads(text).items()
        }
        return {
            name: _stored(s, {key: file.get_tensor(key) for key in entries(name, s)}, name)
            for name, s in storage.items()
        }


def _two_bits(positions: np.ndarray) -> np.ndarray:
    return np.stack([positions & 1, positions >> 1], axis=1).astype(np.uint8).reshape(-1)


def _brief(storage: Storage) -> dict[str, object]:
    default = Storage(shape=(), kept=0)
    return {
        key: value
        for key, value in asdict(storage).items()
        if key in ("shape", "kept") or value != getattr(default, key)
    }


def _arrays(name: str, tensor: StoredTensor) -> dict[str, np.ndarray]:
    storage = tensor.storage
    values = tensor.values.detach()
    _check(name, tensor)
    kept = values.reshape(-1) if tensor.mask is None else values[tensor.mask]
    if storage.bits == 32:
        payload = kept.to(torch.float32).numpy()
        dense = storage.index == "none"
        arrays = {name: payload.reshape(storage.shape) if dense else payload}
    else:
        assert tensor.scale is not None
        arrays = {
            f"{name}.codes": np.frombuffer(pack_codes(kept, storage.bits), np.uint8),
            f"{name}.scale": tensor.scale.detach().to(torch.float32).numpy(),
        }
    if tensor.mask is not None:
        bitmap = storage.index == "bitmap"
        # Groups of four run along the inputs, so the output dimension goes first.
        index = pack_mask(tensor.mask) if bitmap else pack_positions(_turned(tensor.mask, storage))
        arrays[f"{name}.index"] = index
    return arrays


def _turned(mask: Tensor, storage: Storage) -> Tensor:
    return mask.movedim(storage.axis, 0)


def _check(name: str, tensor: StoredTensor) -> None:
    storage = tensor.storage
    kept = storage.count if tensor.mask is None else int(tensor.mask.sum())
    facts = {
        "shape": tuple(tensor.values.shape) == storage.shape,
        "mask": (tensor.mask is None) == (storage.index == "none"),
        "kept": kept == storage.kept,
        "scale": (tensor.scale is None) == (storage.bits == 32),
        "zeros": tensor.mask is None or not bool(tensor.values[~tensor.mask].any()),
    }
    wrong = [what for what, holds in facts.items() if not holds]
    if wrong:
        raise PackingError(f"tensor {name!r} does not match its storage {storage} in {wrong}")


def _stored(storage: Storage, arrays: Mapping[str, np.ndarray], name: str) -> StoredTensor:
    mask = None
    if storage.index == "bitmap":
        mask = unpack_mask(arrays[f"{name}.index"], storage.shape)
    elif storage.index == "2:4":
        turned = _turned(torch.empty(storage.shape, device="meta"), storage).shape
        mask = unpack_positions(arrays[f"{name}.index"], tuple(turned)).movedim(0, storage.axis)
    if storage.bits == 32:
        kept, scale = torch.from_numpy(arrays[name].copy()), None
    else:
        kept = unpack_codes(arrays[f"{name}.codes"], storage.bits, storage.kept)
        scale = torch.from_numpy(arrays[f"{name}.scale"].copy())
    if mask is None:
        return StoredTensor(storage=storage, values=kept.reshape(storage.shape), scale=scale)
    values = torch.zeros(storage.shape, dtype=kept.dtype)
    values[mask] = kept
    return StoredTensor(storage=storage, values=values, scale=scale, mask=mask)
