"""How Python objects become JSON, for messages and for HTTP responses alike."""

from __future__ import annotations

from typing import Any

import orjson

__all__ = ["encode_json"]


def encode_json(obj: Any) -> bytes:
    """``obj`` as compact JSON in UTF-8.

    Keys that are numbers, dates or the like become strings, as :mod:`json` does it.

    Raises:
        TypeError: something in ``obj`` has no JSON form.
    """
    try:
        return orjson.dumps(obj)
    except TypeError:
        # This option slows down objects that do not need it, which are nearly all.
        return orjson.dumps(obj, option=orjson.OPT_NON_STR_KEYS)
