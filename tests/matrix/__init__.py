"""Clients, listeners and upstreams of other makers, each with each: bodies arrive octet for octet."""
