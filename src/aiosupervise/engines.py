"""The protocol behind `map_all(engine=...)`: write an engine of your own against it. Provisional: it may still change.

A run pulls items from its source and keeps the outcomes; an engine does the jobs, wherever that may be. Subclass
`EngineRun` for the jobs of one run, and give `map_all` an object with the two methods of `Engine`. The page "An engine
of your own" in the documentation has a whole one.
"""

from ._batch.protocol import Engine, EngineConfig, EngineContext, EngineRun

__all__ = ["Engine", "EngineConfig", "EngineContext", "EngineRun"]

for _name in __all__:  # users see aiosupervise.engines.EngineRun, in tracebacks and in the docs
    globals()[_name].__module__ = __name__
