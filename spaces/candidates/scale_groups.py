"""Groups of consecutive columns that share a scale: where the rows of a matrix are split, and how often.

The group size of GPTQ, AWQ and ONNX's block-wise quantisation. Linear layers have it, beside float
activations alone: integer kernels of runtimes take one scale for each output. So have tables of tokens.
"""

from __future__ import annotations

GROUPED_KINDS = ("linear", "recurrent", "embedding")
"""Kinds of layers whose rows may have several scales."""


def group_count(columns: int, size: int) -> int:
    """Scales of a row; the last group may be shorter.

    >>> group_count(100, 32)
    4
    """
    return -(-columns // size)


def effective_size(columns: int, size: int) -> int:
    """`size`, or 0 where one group would hold the whole row.

    >>> effective_size(128, 128), effective_size(129, 128)
    (0, 128)
    """
    return size if size < columns else 0


def size_of(columns: int, groups: int) -> int:
    """The size of `groups` > 1 groups of a row: sizes are powers of two, so no other fits.

    >>> size_of(100, 4), size_of(129, 2)
    (32, 128)
    """
    return 1 << (-(-columns // groups) - 1).bit_length()
