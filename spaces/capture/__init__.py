"""A module read into a graph: traced, simplified, its outputs chosen, held against the module itself.

Everything between an `nn.Module` and the graph of operators belongs here; what a graph is, is `graph`'s.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
