"""The demonstration fleet: agents that review a Python project and write ``review.md``."""
