"""What commands ask of a running relay: one set of services, one socket to reach them by.

``services`` answers, ``server`` serves them at the control socket, ``client`` asks there; ``views`` is what the
services need to see of a running delivery. Nothing is imported here: a command must start fast.
"""
