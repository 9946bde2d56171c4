"""Limits, exactly: how many transactions an upstream may be given, over any window however placed. Pure.

A permit is taken when a transaction starts and leaves the window ``window`` after its reply, so what is in flight
counts. An event that the receiver counts lies between the two: whenever it places a window, what it finds in it was
held by us together when the last of it started.

Times are seconds of one clock that never steps and runs on during suspend (CLOCK_BOOTTIME).
"""
