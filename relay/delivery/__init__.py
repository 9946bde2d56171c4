"""Delivery: the scheduler decides when and where, sessions decide how, settling says what became of it."""
