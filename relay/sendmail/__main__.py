"""``python -m relay.sendmail`` is the command ``relay-sendmail``."""

from __future__ import annotations

import sys

from relay.sendmail import main

sys.exit(main())
