from .parts import Part as Part
from .parts import Parts as Parts
from .rules import RULES as RULES
from .ties import Layout as Layout
from .ties import Ties as Ties
