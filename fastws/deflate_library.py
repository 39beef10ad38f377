"""Which zlib compresses: the standard library's, or another package with its interface."""

from __future__ import annotations

import importlib
import zlib
from types import ModuleType
from typing import Literal, get_args

__all__ = ["LIBRARIES", "Library", "zlib_module"]

Library = Literal["zlib", "zlib-ng"]

LIBRARIES: tuple[Library, ...] = get_args(Library)


def zlib_module(library: Library, option: str = "deflate library") -> ModuleType:
    """The module with the ``compressobj`` and ``decompressobj`` of ``library``.

    Only what is asked for is imported.

    Parameters:
        library: one of :data:`LIBRARIES`.
        option: what the user chose it with, for the sentence.

    Raises:
        ValueError: its package cannot be imported; the message says how to get it.
    """
    if library == "zlib":
        return zlib
    try:
        return importlib.import_module("zlib_ng.zlib_ng")
    except ImportError:
        raise ValueError(
            f"{option} is {library}, which needs the package zlib-ng, and that cannot be imported: "
            "install fastws[fast-deflate] (`pip install '.[fast-deflate]'` in the source tree), "
            "or choose zlib"
        ) from None
