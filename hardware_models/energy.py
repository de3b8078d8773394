"""Relative energy of one inference: arithmetic by bit width, and data moved.

The table is Horowitz's for 45 nm, as bit-width polynomials. Its absolute figures hold for no
device that paredown runs on, so only the ratio to another model's energy is reported.
"""

from __future__ import annotations

from paredown.hardware_models.workload import OperatorWork, Work

# Horowitz, "Computing's energy problem", ISSCC 2014, doi:10.1109/ISSCC.2014.6757323, 45 nm; the
# polynomials are QKeras's (qtools, qenergy). Picojoules.
_FLOAT_MAC_PJ = 3.7 + 0.9
_INTEGER_ADD_PJ_PER_BIT = 0.003125
_INTEGER_MULTIPLY_PJ_PER_BIT2 = 0.00299
_INTEGER_MULTIPLY_PJ_PER_BIT = 0.00104
_ACCUMULATOR_BITS = 32
_SRAM_PJ_PER_BYTE = 100 / 8  # 64 bits from a 1 MB cache: 100 pJ
_DRAM_PJ_PER_BYTE = 1300 / 8  # 64 bits from DRAM: 1.3 to 2.6 nJ, the lower end


def energy_ratio(work: Work, reference: Work) -> float:
    """Energy of `work` over that of `reference` (the uncompressed model), without a unit."""
    return _energy_pj(work) / _energy_pj(reference)


def mac_energy_pj(weight_bits: int, activation_bits: int) -> float:
    """Picojoules of one multiply-accumulate in 45 nm; float where either side is.

    For two widths the square of the polynomial becomes their product and its linear term their
    mean: equal to QKeras's for equal widths.

    >>> round(mac_energy_pj(8, 8), 2)
    0.3
    >>> round(mac_energy_pj(4, 32), 2)
    4.6
    """
    if weight_bits == 32 or activation_bits == 32:
        return _FLOAT_MAC_PJ
    multiply = (
        _INTEGER_MULTIPLY_PJ_PER_BIT2 * weight_bits * activation_bits
        + _INTEGER_MULTIPLY_PJ_PER_BIT * (weight_bits + activation_bits) / 2
    )
    return multiply + _INTEGER_ADD_PJ_PER_BIT * _ACCUMULATOR_BITS


def _energy_pj(work: Work) -> float:
    weight_bytes = {op.weight: op.weight_bytes for op in work.operators}
    return sum(map(_operator_pj, work.operators)) + _DRAM_PJ_PER_BYTE * sum(weight_bytes.values())


def _operator_pj(op: OperatorWork) -> float:
    arithmetic = op.macs * mac_energy_pj(op.weight_bits, op.activation_bits)
    if op.fused or op.kind == "reshape":
        return arithmetic
    elements = op.input_elements + op.output_elements
    return arithmetic + _SRAM_PJ_PER_BYTE * elements * op.activation_bits / 8
