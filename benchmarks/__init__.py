"""Benchmarks of fastws: `python -m benchmarks.bench`. See README.md beside this file."""
