"""What a measurement gives."""

from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table of results."""

    what: str
    measured: str
    aim: str
