"""Injuries to a real relay, counted: each figure prints one line, and has a negative control that must fail.

Tests named after the accidents run a few rounds of each; ``scripts/torture`` runs as many as one likes.
"""
