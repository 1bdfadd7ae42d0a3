"""Two workflows with agents that run them, offline and on real input: `manage.py workflows examples`."""
