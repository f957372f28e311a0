"""What aiosupervise and its peers do in the same situation: each answer is what a small program saw."""
