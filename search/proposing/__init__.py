"""Which candidate comes next: samplers, damage predicted and learned, expected gain.

The coordinator decides; engines only carry jobs out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
