"""Signing with DKIM: private keys as OpenSSL has them, who is signed for, and the process that does the arithmetic.

What a signature is ``relay.dkim`` knows; here are the files, the arithmetic and the waiting.
"""
