"""A batch: source -> pump -> one task per job -> outcomes -> strategy -> report.

Imports point one way: `api -> run -> engine, progress -> running, source, strategies -> jobs, outcomes`.
"""
