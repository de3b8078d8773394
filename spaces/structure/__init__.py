"""What was read off a graph: layers, channels that go together, blocks, segments.

Readings of a captured network and the proof that each group and block may really be removed. What the
search then chooses is `candidates`'.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
