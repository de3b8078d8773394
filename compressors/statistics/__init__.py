"""What is collected from calibration data: input moments, output moments, loss curvature, ranges.

Everything that a solver needs to know of the data, once for each network.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
