"""A batch: source -> pump -> engine -> outcome -> strategy -> report or reader.

Imports point one way: `api -> run, local -> pump, breaker -> config -> protocol -> jobs`; `first_error`, `outlet`,
`progress`, `report`, `signals`, `source` and `strategies` are used by these.
"""
