"""``a2amc``, the command line."""
