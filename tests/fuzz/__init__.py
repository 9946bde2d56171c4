"""Fuzzing: what must hold for any octets at all, as functions from octets to nothing or an exception.

``targets`` has a room for each part of the relay that reads what others wrote; its ``check`` raises where something
does not hold, and its ``SEEDS`` show what such input looks like. ``corpus`` keeps inputs that a long run found to reach
more, replayed as ordinary tests by ``test_corpus``. ``python -m tests.fuzz`` (scripts/fuzz) is the long run, by
atheris, guided by coverage.
"""
