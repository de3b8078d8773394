"""Names of operators are those that torch has."""

import torch

from paredown.spaces.graph import names
from paredown.spaces.graph.names import TRACED_AS


def test_every_name_is_an_operator_of_torch() -> None:
    found = [
        value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)
    ]
    for name in (*found, *TRACED_AS, *TRACED_AS.values()):
        _, operator, overload = name.split(".")
        assert overload in getattr(torch.ops.aten, operator).overloads()
