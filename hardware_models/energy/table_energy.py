"""Energy of one inference: arithmetic by bit width, and data moved.

The tables are picojoules of a process or of a data sheet's peak, which no real device meets. So what
they give is only ever reported as a ratio to another model's energy. Joules come from a meter
(`metered_energy.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from paredown.hardware_models.devices.gains import Energy
from paredown.hardware_models.work.workload import OperatorWork, Work

# Horowitz, "Computing's energy problem", ISSCC 2014, doi:10.1109/ISSCC.2014.6757323, 45 nm; the
# polynomials are QKeras's (qtools, qenergy). Picojoules.
_FLOAT_MAC_PJ = 3.7 + 0.9
_INTEGER_ADD_PJ_PER_BIT = 0.003125
_INTEGER_MULTIPLY_PJ_PER_BIT2 = 0.00299
_INTEGER_MULTIPLY_PJ_PER_BIT = 0.00104
_ACCUMULATOR_BITS = 32
_SRAM_PJ_PER_BYTE = 100 / 8  # 64 bits from a 1 MB cache: 100 pJ
_DRAM_PJ_PER_BYTE = 1300 / 8  # 64 bits from DRAM: 1.3 to 2.6 nJ, the lower end
_BYTE = 8


@dataclass(frozen=True, kw_only=True)
class EnergyParts:
    """Picojoules of a model by cause, in the units of the table: comparable, not absolute."""

    arithmetic_pj: float
    on_chip_pj: float
    off_chip_pj: float

    @property
    def total_pj(self) -> float:
        """Sum of all causes in picojoules."""
        return self.arithmetic_pj + self.on_chip_pj + self.off_chip_pj


def energy_ratio(work: Work, reference: Work, table: Energy | None = None) -> float:
    """Energy of `work` over that of `reference` (the uncompressed model), without a unit.

    Args:
        table: A device's figures; None takes the 45 nm table, in which narrow integers cost less.
    """
    return energy_parts(work, table).total_pj / energy_parts(reference, table).total_pj


def energy_parts(work: Work, table: Energy | None = None) -> EnergyParts:
    """Energy by cause: products, activations from on-chip memory, packed weights from beyond."""
    on_chip = _SRAM_PJ_PER_BYTE if table is None else table.on_chip_byte_pj.value
    off_chip = _DRAM_PJ_PER_BYTE if table is None else table.off_chip_byte_pj.value
    weight_bytes: Mapping[str, int] = {op.weight: op.weight_bytes for op in work.operators}
    return EnergyParts(
        arithmetic_pj=sum(op.macs * _operator_mac_pj(op, table) for op in work.operators),
        on_chip_pj=on_chip * sum(map(_moved_bytes, work.operators)),
        off_chip_pj=off_chip * sum(weight_bytes.values()),
    )


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


def _operator_mac_pj(op: OperatorWork, table: Energy | None) -> float:
    if table is None:
        return mac_energy_pj(op.weight_bits, op.activation_bits)
    # A device without an integer kernel here widens the codes and computes in float.
    if not op.integer:
        return table.float_mac_pj.value
    bits = op.weight_bits if table.scales_below_8_bits else _BYTE
    scale = mac_energy_pj(min(bits, _BYTE), _BYTE) / mac_energy_pj(_BYTE, _BYTE)
    return table.int8_mac_pj.value * scale


def _moved_bytes(op: OperatorWork) -> float:
    if op.fused or op.kind == "reshape":
        return 0.0
    return (op.input_elements + op.output_elements) * op.activation_bits / _BYTE
