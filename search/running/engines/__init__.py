"""What carries the jobs of a search out: processes of this machine, or Ray's workers.

Both do one job after the other in a process that may be lost, and report what came of each.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
