"""The quantisers by the names that recipes know them under."""

from __future__ import annotations

from collections.abc import Mapping

from paredown.compressors.training.frozen import Frozen
from paredown.compressors.training.laq import Laq
from paredown.compressors.training.lsq import Lsq
from paredown.compressors.training.quantizer import QuantizerFactory
from paredown.compressors.training.sat import Sat

QUANTIZERS: Mapping[str, QuantizerFactory] = {
    "lsq": Lsq,
    "laq": Laq,
    "sat": Sat,
    "frozen": Frozen,
}
