"""``kind = "ses"``: Amazon SES by its API v2, signed by botocore.

``request`` and ``outcomes`` are the mapping, pure; ``signing`` alone imports botocore; ``api`` joins them.
"""
