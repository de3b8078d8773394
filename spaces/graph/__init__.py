"""The network as a graph of operators: the table of them, run, rewritten, stored as JSON.

What an operator is and does belongs here. How a module becomes a graph is `capture`'s, what may be
*changed* about a network `structure`'s.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
