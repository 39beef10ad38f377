"""Echo servers under test, each run as `python -m benchmarks.servers.NAME HOST PORT`.

Each echoes text at /ws the way its own documentation shows, and prints "ready" once it listens.
"""
