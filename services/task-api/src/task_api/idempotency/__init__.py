"""Writes that a caller may send again: the answer to an `Idempotency-Key` is kept with the change it answers."""
