"""The supervisor: long-running tasks that are restarted when they end, as Erlang/OTP restarts processes."""

from .child import Child
from .supervisor import Supervisor
from .this_run import alive, ready

__all__ = ["Child", "Supervisor", "alive", "ready"]

# Users import these names from `aiosupervise`.
for _name in __all__:
    globals()[_name].__module__ = "aiosupervise"
