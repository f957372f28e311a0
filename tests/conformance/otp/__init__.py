"""OTP's semantics and ours: small Erlang programs, what they have printed, and their twins in Python.

`programs` has a program for each row of the tables in docs/reference/otp.md, and `recorded` what it printed.
`nox -s otp` runs them where Erlang is installed, and compares. The twins run in the ordinary tests.
"""
