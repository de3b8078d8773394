"""Methods as values of a knob."""

from __future__ import annotations

from paredown.spaces.knobs.method import MethodKnob


def test_methods_change_no_cost_and_read_as_their_names() -> None:
    knob = MethodKnob(name="m", targets=("a",), domain=("gptq", "rtn"))
    assert not knob.changes_costs
    assert knob.domain_text == "gptq, rtn"
    assert knob.plain("gptq") == "gptq"
