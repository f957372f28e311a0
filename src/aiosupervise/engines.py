"""The protocol behind `map_all(engine=...)`, for writing your own engine. It is provisional and may still change.

A run pulls items from its source and keeps the outcomes; an engine executes the jobs, in any process or on any machine.
Subclass `EngineRun` for the jobs of one run, and pass `map_all` an object with the two methods of `Engine`. The page
"Custom engines" in the documentation has a complete example.
"""

from ._batch.protocol import Engine, EngineConfig, EngineContext, EngineRun

__all__ = ["Engine", "EngineConfig", "EngineContext", "EngineRun"]

# Tracebacks and the docs then show the public names, such as aiosupervise.engines.EngineRun.
for _name in __all__:
    globals()[_name].__module__ = __name__
