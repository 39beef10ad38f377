"""Our server with the WebSocket of Chromium, as the script of a page has it.

A script can send neither PINGs nor fragments; Chromium sends large messages in fragments by itself.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from websockets.sync.client import connect

from tests.browser.chromium import WAIT
from tests.support import TIMEOUT, ServerProcess

pytestmark = pytest.mark.browser

# One connection: it sends `messages` one after the other, each when the one before has come back,
# and then closes; the page's view of all that is the result. Binary is written as a list of bytes.
CONVERSE = """
async ({ url, protocols, messages, code, reason }) => {
  const ws = new WebSocket(url, protocols);
  ws.binaryType = "arraybuffer";
  const received = [];
  const show = (data) => (typeof data === "string" ? data : [...new Uint8Array(data)]);
  const send = () => {
    const next = messages.shift();
    if (next === undefined) {
      if (code) ws.close(code, reason);
      return;
    }
    ws.send(typeof next === "string" ? next : new Uint8Array(next));
  };
  return await new Promise((resolve) => {
    ws.onopen = send;
    ws.onmessage = ({ data }) => {
      received.push(show(data));
      send();
    };
    ws.onclose = (event) =>
      resolve({
        received,
        protocol: ws.protocol,
        extensions: ws.extensions,
        code: event.code,
        reason: event.reason,
        clean: event.wasClean,
      });
  });
}
"""

# 1 MiB would take long to carry to the page as JSON: it is made and compared there.
LARGE = """
async ({ url }) => {
  const ws = new WebSocket(url);
  ws.binaryType = "arraybuffer";
  const sent = new Uint8Array(1 << 20);
  for (let i = 0; i < sent.length; i += 65536) crypto.getRandomValues(sent.subarray(i, i + 65536));
  return await new Promise((resolve) => {
    ws.onopen = () => ws.send(sent);
    ws.onmessage = ({ data }) => {
      const got = new Uint8Array(data);
      ws.close();
      resolve(got.length === sent.length && got.every((byte, i) => byte === sent[i]));
    };
    ws.onclose = () => resolve("closed");
  });
}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("tests.interop.application:app") as running:
        yield running
    assert "Traceback" not in running.output


@pytest.fixture(scope="module")
def page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(WAIT * 1000)
    page = context.new_page()
    page.goto(f"http://{server.host}:{server.port}/")
    yield page
    context.close()


def converse(
    page: Page,
    server: ServerProcess,
    path: str,
    *messages: Any,
    protocols: tuple[str, ...] = (),
    code: int = 1000,
    reason: str = "",
) -> Any:
    given = {"url": server.url + path, "protocols": list(protocols), "messages": list(messages)}
    return page.evaluate(CONVERSE, {**given, "code": code, "reason": reason})


@pytest.mark.parametrize("mode", ["off", "dedicated", "shared"])
def test_messages_come_back(page: Page, server: ServerProcess, mode: str) -> None:
    messages = ["", "x", "héllo wörld €𝄞 " * 40, "z" * 70_000, [], [0, 255], [1, 2, 3] * 5000]
    seen = converse(page, server, f"/{mode}", *messages)
    assert seen["received"] == messages
    agreed = seen["extensions"].partition(";")[0]
    assert agreed == ("" if mode == "off" else "permessage-deflate")
    assert (seen["code"], seen["clean"]) == (1000, True)


@pytest.mark.parametrize("mode", ["off", "dedicated", "shared"])
def test_a_mebibyte_comes_back(page: Page, server: ServerProcess, mode: str) -> None:
    assert page.evaluate(LARGE, {"url": f"{server.url}/{mode}"}) is True


def test_subprotocols(page: Page, server: ServerProcess) -> None:
    seen = converse(page, server, "/speaks", protocols=("mqtt", "chat.v1"), code=0)
    assert (seen["protocol"], seen["received"]) == ("chat.v1", ["chat.v1"])


def test_the_browser_answers_our_ping(page: Page, server: ServerProcess) -> None:
    assert converse(page, server, "/pings", code=0)["received"] == ["alive"]


def test_a_page_sees_our_close_code_and_reason(page: Page, server: ServerProcess) -> None:
    seen = converse(page, server, "/closes", code=0)
    assert (seen["code"], seen["reason"], seen["clean"]) == (4321, "au revoir, ça suffit", True)


def test_we_see_a_pages_close_code_and_reason(page: Page, server: ServerProcess) -> None:
    name = secrets.token_hex(4)
    seen = converse(page, server, f"/listens/{name}", code=4999, reason="à bientôt")
    assert (seen["code"], seen["clean"]) == (4999, True)
    with connect(f"{server.url}/told/{name}", open_timeout=TIMEOUT, proxy=None) as ws:
        assert json.loads(ws.recv(TIMEOUT)) == [4999, "à bientôt"]
