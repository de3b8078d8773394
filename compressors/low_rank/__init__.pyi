from .factorizing import compose as compose
from .factorizing import factorize as factorize
from .factorizing import gram_at_positions as gram_at_positions
from .factorizing import refit as refit
from .factorizing import spread as spread
from .factorizing import statistics_behind as statistics_behind
from .rank_by_error import Found as Found
from .rank_by_error import thinnest_ranks as thinnest_ranks
