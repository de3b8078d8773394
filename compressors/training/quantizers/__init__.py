"""Tensors of codes that learn: each quantiser of `QUANTIZERS` finds the codes of a weight at every step.

A `QuantizerFactory` makes a `WeightQuantizer` of a stored tensor, which reads as the dense weight of its
present codes, gives `Learned` parameters to an optimiser, and can be stored again in the storage it had.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
