"""DKIM (RFC 6376): octets in, DKIM-Signature fields out. Keys and times are passed in; nothing here waits.

``bodies`` hashes a body while it is read, ``fields`` finds and canonicalises header fields, ``signatures`` chooses what
is signed and makes the fields, ``records`` spells what is published, ``verifying`` asks dkimpy whether signatures hold.
"""
