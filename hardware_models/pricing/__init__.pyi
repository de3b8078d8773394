from .compiled_space import CompiledSpace as CompiledSpace
from .costs import WEIGHT_MEMORY as WEIGHT_MEMORY
from .costs import CostModels as CostModels
from .costs import has_weight_memory as has_weight_memory
