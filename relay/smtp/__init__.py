"""SMTP without I/O: bytes in, values out. No socket, no clock, no logger (RFC 5321, 2920)."""
