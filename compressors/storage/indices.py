"""Where the kept values of a sparse tensor lie, packed to the bit: one way to write each `Index`.

Masks are boolean with rows (output channels) first; all later dimensions together are a row's columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from paredown.spaces.candidates.blueprint import Index, field_bits
from paredown.spaces.candidates.zeros import BLOCK
from paredown.spaces.system.errors import ParedownError

_GROUP = 4  # 2:4 sparsity keeps two of every four


class PackingError(ParedownError):
    """A tensor does not have the format its storage describes, or a file is not one of ours."""


def pack_mask(mask: Tensor) -> np.ndarray:
    """One bit per value, lowest bit first, uint8."""
    return np.packbits(mask.reshape(-1).numpy(), bitorder="little")


def unpack_mask(data: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """The boolean mask that `pack_mask` wrote."""
    count = int(np.prod(shape, dtype=np.int64))
    bits = np.unpackbits(data, bitorder="little", count=count)
    return torch.from_numpy(bits.astype(bool)).reshape(shape)


def pack_blocks(mask: Tensor) -> np.ndarray:
    """One bit per block of columns; the columns at the end that fill no block have none.

    Raises:
        PackingError: A block is kept in part, or a column at the end is not kept.
    """
    rows = mask.reshape(mask.shape[0], -1).numpy()
    whole = rows.shape[1] // BLOCK * BLOCK
    blocks = rows[:, :whole].reshape(rows.shape[0], -1, BLOCK)
    if (blocks != blocks[:, :, :1]).any() or not rows[:, whole:].all():
        raise PackingError(f"a mask of blocks keeps all {BLOCK} columns or none, and the tail")
    return np.packbits(blocks[:, :, 0].reshape(-1), bitorder="little")


def unpack_blocks(data: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """The mask that `pack_blocks` wrote."""
    rows, columns = _as_matrix(shape)
    count = columns // BLOCK
    bits = np.unpackbits(data, bitorder="little", count=rows * count).reshape(rows, count)
    mask = np.ones((rows, columns), dtype=bool)
    mask[:, : count * BLOCK] = bits.repeat(BLOCK, axis=1)
    return torch.from_numpy(mask).reshape(shape)


def pack_rows(mask: Tensor) -> np.ndarray:
    """Compressed sparse rows: how many values each row keeps, then the column of every one.

    Counts take ceil(log2(K + 1)) bits for K columns, column numbers ceil(log2(K)).
    """
    rows = mask.reshape(mask.shape[0], -1).numpy()
    columns = rows.shape[1]
    counts = _fields(rows.sum(axis=1), field_bits(columns + 1))
    positions = _fields(np.nonzero(rows)[1], field_bits(columns))
    return np.packbits(np.concatenate([counts, positions]), bitorder="little")


def unpack_rows(data: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """The mask that `pack_rows` wrote."""
    rows, columns = _as_matrix(shape)
    bits = np.unpackbits(data, bitorder="little")
    start = rows * field_bits(columns + 1)
    counts = _values(bits[:start], field_bits(columns + 1), rows)
    positions = _values(bits[start:], field_bits(columns), int(counts.sum()))
    mask = np.zeros((rows, columns), dtype=bool)
    mask[np.repeat(np.arange(rows), counts), positions] = True
    return torch.from_numpy(mask).reshape(shape)


def pack_positions(mask: Tensor) -> np.ndarray:
    """Two bits per kept value: where it stands in its group of four along the columns.

    Args:
        mask: With two of every four kept in each row; a tail of fewer than four is dense and has
            positions too, so every kept value costs the same two bits.

    Raises:
        PackingError: A group of four keeps more or fewer than two.
    """
    rows = mask.reshape(mask.shape[0], -1).numpy()
    grouped = rows[:, : rows.shape[1] // _GROUP * _GROUP].reshape(rows.shape[0], -1, _GROUP)
    if not (grouped.sum(axis=2) == 2).all() or not rows[:, grouped.shape[1] * _GROUP :].all():
        raise PackingError(
            "a 2:4 mask keeps two of every four along the inputs and the whole tail"
        )
    return np.packbits(_fields(np.nonzero(rows)[1] % _GROUP, 2), bitorder="little")


def unpack_positions(data: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """The mask that `pack_positions` wrote."""
    out, columns = _as_matrix(shape)
    groups, tail = divmod(columns, _GROUP)
    kept = groups * 2 + tail
    bits = np.unpackbits(data, bitorder="little", count=2 * out * kept)
    positions = _values(bits, 2, out * kept).reshape(out, kept)
    starts = np.concatenate([np.repeat(np.arange(groups), 2), np.full(tail, groups)]) * _GROUP
    mask = np.zeros((out, columns), dtype=bool)
    mask[np.arange(out)[:, None], positions + starts] = True
    return torch.from_numpy(mask).reshape(shape)


Pack = Callable[[Tensor], np.ndarray]
Unpack = Callable[[np.ndarray, tuple[int, ...]], Tensor]

INDICES: Mapping[Index, tuple[Pack, Unpack]] = {
    "bitmap": (pack_mask, unpack_mask),
    "block": (pack_blocks, unpack_blocks),
    "csr": (pack_rows, unpack_rows),
    "2:4": (pack_positions, unpack_positions),
}


def _as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], int(np.prod(shape[1:], dtype=np.int64))


def _fields(values: np.ndarray, bits: int) -> np.ndarray:
    """The bits of unsigned `values`, `bits` of each, lowest first."""
    return ((values[:, None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(-1)


def _values(fields: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The `count` unsigned values at the start of `fields`."""
    taken = fields[: count * bits].reshape(count, bits).astype(np.int64)
    return taken @ (np.int64(1) << np.arange(bits))
