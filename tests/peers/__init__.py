"""Neighbours for tests: a scripted upstream, a counting sink, a byte tap, a ledger client."""
