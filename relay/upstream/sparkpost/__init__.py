"""``kind = "sparkpost"``: SparkPost's transmissions API. ``request`` and ``outcomes`` are the mapping, pure."""
