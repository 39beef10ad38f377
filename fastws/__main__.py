"""``python -m fastws`` is the command ``fastws``."""

from __future__ import annotations

from fastws.cli import main

main(prog_name="fastws")
