"""All twins; importing the modules below has added them, in the order of the tables."""

from . import differences, ends, groups, restarts
from .twin import TWINS

__all__ = ["TWINS", "differences", "ends", "groups", "restarts"]
