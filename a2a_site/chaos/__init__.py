"""Proof by breaking things: an installation of its own, a load with a history, real faults, and a verdict.

`manage.py chaos` and tests/faults/ share this. ``stack`` holds the processes, ``customer`` submits and remembers,
``faults`` breaks, ``verdict`` judges. Nothing here touches the A2A_HOME it was started with.
"""
