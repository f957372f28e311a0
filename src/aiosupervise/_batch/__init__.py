"""A batch: source -> feed -> engine -> outcome -> strategy -> report or reader, all of it driven by the pump.

Imports point one way: `api -> run, local -> pump, breaker -> feeds, protected -> feed, config -> protocol -> jobs`.
These modules share `first_error`, `outlet`, `progress`, `report`, `source` and `strategies`.
"""

from ._journal.journal import Journal
from .api import map_all, run_all
from .overload import Adaptive, Overload
from .report import Report
from .run import Run

__all__ = ["Adaptive", "Journal", "Overload", "Report", "Run", "map_all", "run_all"]

# Users import these names from `aiosupervise`.
for _name in __all__:
    globals()[_name].__module__ = "aiosupervise"
