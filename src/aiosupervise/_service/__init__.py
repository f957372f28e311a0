"""A service: tasks that should never end, kept alive by a supervisor, after Erlang/OTP."""
