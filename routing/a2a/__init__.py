"""The fleet as an A2A agent (specification 1.0.1, wire version 1.0), and everything that knows the SDK.

``app`` is the ASGI application; ``guard`` lets in whom it may; ``handler`` answers the eleven methods from the ledger;
``wire`` translates rows into protocol messages; ``cards`` says what the fleet can do; ``conformance`` is a test agent.
"""
