from .quantizer import Learned as Learned
from .quantizer import QuantizerFactory as QuantizerFactory
from .quantizer import WeightQuantizer as WeightQuantizer
from .table import QUANTIZERS as QUANTIZERS
