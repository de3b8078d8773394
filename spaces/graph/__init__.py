"""The network as a graph of operators: captured from a module, run, rewritten, stored as JSON.

What an operator is and does belongs here. What may be *changed* about a network is `structure`'s.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
