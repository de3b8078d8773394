"""Latency predicted from work, from a preset to a model fitted to measured networks.

One Protocol, `LatencyModel`; every estimate carries its interval, source and held-out error.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
