"""The quantisers by the names that recipes know them under."""

from __future__ import annotations

from collections.abc import Mapping

from paredown.compressors.training.quantizers.frozen import Frozen
from paredown.compressors.training.quantizers.laq import Laq
from paredown.compressors.training.quantizers.lsq import Lsq
from paredown.compressors.training.quantizers.quantizer import QuantizerFactory
from paredown.compressors.training.quantizers.sat import Sat

QUANTIZERS: Mapping[str, QuantizerFactory] = {
    "lsq": Lsq,
    "laq": Laq,
    "sat": Sat,
    "frozen": Frozen,
}
"""Every quantiser by its name; `frozen` keeps codes, the others find them anew at each step."""
