"""A batch: source -> feed -> engine -> outcome -> strategy -> report or reader, all of it driven by the pump.

Imports point one way: `api -> run, local -> pump, breaker -> feeds, protected -> feed, config -> protocol -> jobs`.
These modules share `first_error`, `outlet`, `progress`, `report`, `source` and `strategies`.
"""
