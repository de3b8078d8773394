"""Sizes that follow the inputs: whole numbers computed from the free axes of a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sympy

BATCH = "batch"
"""The axis that every graph has: dimension 0 of its inputs."""
TIME = "time"
"""The second dimension of an input, where it may have any length."""

Term = int | str | tuple["Term", ...]
"""A number, an axis by its name, or an operation with its operands: ("*", 2, "batch")."""

_OPERATIONS: Mapping[str, Callable[[list[int]], int]] = {
    "+": sum,
    "*": math.prod,
    "//": lambda pair: pair[0] // pair[1],
}
_QUOTIENTS = ("FloorDiv", "CleanDiv", "IntTrueDiv")
_REMAINDERS = ("Mod", "PythonMod")


class SizeError(ValueError):
    """A size is computed in a way that a graph cannot keep."""


@dataclass(frozen=True)
class Size:
    """A whole number that follows the sizes of named axes.

    >>> Size(("+", ("*", 2, "time"), -1)).at({"batch": 1, "time": 5})
    9
    """

    term: Term

    @classmethod
    def of_batch(cls, times: int = 1) -> Size:
        """So many times the batch."""
        return cls(BATCH if times == 1 else ("*", times, BATCH))

    @property
    def batches(self) -> int | None:
        """How many times the batch it is; None where it is something else."""
        if self.term == BATCH:
            return 1
        match self.term:
            case ("*", int(times), "batch"):
                return times
        return None

    @property
    def axes(self) -> frozenset[str]:
        """Names of the axes that it follows."""
        return _axes(self.term)

    def at(self, axes: Mapping[str, int]) -> int:
        """Its value where the axes have these sizes."""
        return _value(self.term, axes)


def read_size(expression: sympy.Expr, axes: Mapping[sympy.Symbol, str]) -> int | Size:
    """The size that an expression of torch.export's symbols stands for.

    Args:
        axes: The name of each symbol that is the size of an input.

    Raises:
        SizeError: It holds another symbol, or an operation other than + - * // and %.
    """
    # Two inputs have symbols of their own for an axis that they share.
    shared = {
        symbol: sympy.Symbol(name, integer=True, positive=True) for symbol, name in axes.items()
    }
    term = _term(expression.xreplace(shared), frozenset(axes.values()))
    return term if isinstance(term, int) else Size(term)


def check_term(term: Term) -> Term:
    """The term, if it is one.

    Raises:
        SizeError: It is no number, axis or known operation.
    """
    match term:
        case int() | "batch" | "time":
            return term
        case (str(operation), *operands) if operation in _OPERATIONS and len(operands) >= 2:
            if operation != "//" or len(operands) == 2:
                return (operation, *(check_term(each) for each in operands))
    raise SizeError(
        f"a size must be made of numbers, {BATCH} and {TIME} by + * //, got {term!r:.80}"
    )


def _axes(term: Term) -> frozenset[str]:
    if isinstance(term, tuple):
        return frozenset().union(*map(_axes, term[1:]))
    return frozenset([term]) if isinstance(term, str) else frozenset()


def _value(term: Term, axes: Mapping[str, int]) -> int:
    if isinstance(term, int):
        return term
    if isinstance(term, str):
        return axes[term]
    operation, *operands = term
    assert isinstance(operation, str)
    return _OPERATIONS[operation]([_value(each, axes) for each in operands])


def _term(expression: sympy.Expr, names: frozenset[str]) -> Term:
    if expression.is_Integer:
        return int(expression)
    if expression.is_Symbol and expression.name in names:
        return str(expression.name)
    kind = type(expression).__name__
    if expression.is_Mul:
        above, below = expression.as_numer_denom()
        if below != 1:
            return ("//", _term(above, names), _term(below, names))
    if expression.is_Add or expression.is_Mul:
        operands = (
            (_term(each, names) for each in expression.as_ordered_factors())
            if (expression.is_Mul)
            else (_term(each, names) for each in expression.as_ordered_terms())
        )
        return ("+" if expression.is_Add else "*", *operands)
    if expression.is_Pow and expression.exp.is_Integer and expression.exp > 1:
        return ("*", *(_term(expression.base, names),) * int(expression.exp))
    if kind in _QUOTIENTS + _REMAINDERS:
        whole, part = (_term(each, names) for each in expression.args)
        quotient = ("//", whole, part)
        if kind in _QUOTIENTS:
            return quotient
        return ("+", whole, ("*", -1, part, quotient))
    raise SizeError(f"{expression}")
