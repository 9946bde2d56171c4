"""Where applications hand their mail over: SMTP on aiosmtpd, made durable, bounded and fast by subclassing.

``server`` listens and counts sessions, ``connection`` is one session's conversation (lines, replies, deadlines),
``protocol`` its commands, ``intake`` what becomes of a message: stamped, kept, and only then answered with 250.
"""
