"""The machine around us: files that appear whole, text and files from outside, other processes.

What every room needs and none is about: digests and limits of files, text made harmless, telemetry off,
children that end with their parent.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
