"""Signing with DKIM: private keys as OpenSSL has them, and the threads that sign.

What a signature is ``relay.dkim`` knows; here are the files, the arithmetic and the waiting.
"""
