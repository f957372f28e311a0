"""The supervisor: long-running tasks that are restarted when they end, as Erlang/OTP restarts processes."""
