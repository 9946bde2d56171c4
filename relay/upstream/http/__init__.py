"""Upstreams that are HTTP APIs: one keep-alive connection is one session, one request at a time is one message.

``request`` and ``body`` are what is said, ``connection`` says it, ``session`` and ``upstream`` are the port's.
"""
