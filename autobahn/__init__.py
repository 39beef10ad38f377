"""Conformance: the Autobahn WebSocket test suite against fastws in both roles (``run.py``)."""
