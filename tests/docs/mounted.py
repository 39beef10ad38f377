"""An application of the documentation inside of another framework's."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount

from docs.programs.loops import app as loops
from docs.programs.paths import app as paths

app = Starlette(routes=[Mount("/live", loops), Mount("/parts", paths)])
