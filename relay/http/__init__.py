"""The HTTP interface, where ``[http]`` stands in the configuration: API, metrics, dashboard, providers' webhooks.

``server`` and ``connection`` run uvicorn's protocol on the relay's own event loop, ``gate`` judges who is let in,
``application`` puts the rooms behind one door, ``queries`` asks what commands ask, ``submitting`` takes mail as a
listener does, ``counting`` and ``metrics`` count. Nothing here knows the spool or the delivery: see ``neighbours``.
"""
