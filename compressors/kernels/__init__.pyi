from .kernel_checks import fallbacks as fallbacks
from .kernel_checks import integer_kernels as integer_kernels
from .kernel_checks import kernels as kernels
from .kernel_checks import promised_kernels as promised_kernels
from .kernel_checks import promises as promises
from .kernel_checks import session as session
