"""Thousands of connections for a long time, with everything that goes wrong on the way."""
