"""The root of the errors that a user can meet, in all four packages.

Each room has its own below it: a message gives the rule, the value and the remedy, and a command that
ends with one prints the message alone, with exit code 2. What only steers the program (a search space
that is exhausted, an evaluation that takes too long) is not one of them.
"""


class ParedownError(ValueError):
    """Something that was asked for cannot be done; the message says what to change."""
