"""Names of operators that code asks for one by one, as graphs hold them."""

from __future__ import annotations

from collections.abc import Mapping

ADD = "aten.add.Tensor"
BATCH_NORM = "aten.batch_norm.default"
CAT = "aten.cat.default"
CONV2D = "aten.conv2d.default"
CONVERT = "aten.to.dtype"
"""Another type for the same values: (x, dtype)."""
COPY = "aten._to_copy.default"
"""A copy, in another type where it is asked for one."""
FLATTEN = "aten.flatten.using_ints"
LINEAR = "aten.linear.default"
MEAN = "aten.mean.dim"
RELU = "aten.relu.default"
RESHAPE = "aten.reshape.default"
SELECT = "aten.select.int"
SLICE = "aten.slice.Tensor"
SPLIT = "aten.split.Tensor"
SPLIT_WITH_SIZES = "aten.split_with_sizes.default"
STACK = "aten.stack.default"
TRANSPOSE = "aten.transpose.int"
UNSQUEEZE = "aten.unsqueeze.default"
VIEW = "aten.view.default"

TRACED_AS: Mapping[str, str] = {"aten._unsafe_view.default": VIEW}
"""Operators that tracing writes under an inner name, by that name."""
