from .found_ranks import Answers as Answers
from .found_ranks import FindRanks as FindRanks
from .found_ranks import FoundRanks as FoundRanks
from .found_ranks import Question as Question
from .found_ranks import read_ranks as read_ranks
from .found_ranks import write_ranks as write_ranks
from .rank_rules import value_of as value_of
from .space_rules import build_space as build_space
