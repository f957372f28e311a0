"""A supervisor, after Erlang/OTP: long-running tasks that are restarted when they end."""
