"""How Chromium is started."""

from __future__ import annotations

import os
import shutil

import pytest
from playwright.sync_api import Browser, Playwright

from tests.support import TIMEOUT

__all__ = ["WAIT", "launch"]

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WAIT = 4 * TIMEOUT
"""Seconds a page has to show something: two browsers and a server share the machine."""


def launch(playwright: Playwright) -> Browser:
    chromium = os.environ.get("FASTWS_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.fail(
            "There is no Chromium to test with: install the package “chromium”, or set "
            "FASTWS_CHROMIUM to the path of one."
        )
    return playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
