"""Training of compressed models: what a trainer is and gets, and how its results are kept.

A trainer changes values and scales and nothing of a model's structure, so that the trained model is
scored, priced, exported and verified as the assembled one would be.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
