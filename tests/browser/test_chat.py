"""The example chat in a real browser: Chromium, headless, against the server as a real process."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Locator,
    Playwright,
    expect,
)

from tests.browser.chromium import WAIT, launch
from tests.support import ServerProcess

pytestmark = pytest.mark.browser

ARTIFACTS = Path(__file__).with_name("artifacts")
DESKTOP = (1280, 800)
PHONE = (390, 844)

CONNECTION_REFUSED = re.compile(r"WebSocket connection to 'ws://\S+' failed: .*ERR_CONNECTION")


class Visitor:
    """One person with a browser window of their own, and all that their page complained about."""

    def __init__(self, browser: Browser, server: ServerProcess) -> None:
        context = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
        context.set_default_timeout(WAIT * 1000)
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"http://{server.host}:{server.port}/")

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def join(self, name: str, room: str = "lobby") -> None:
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_label("Room", exact=True).fill(room)
        self.page.get_by_role("button", name="Join").click()

    def say(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.get_by_label("Message", exact=True).press("Enter")

    def go_to(self, room: str) -> None:
        self.page.get_by_role("navigation").get_by_role("button", name=room).click()

    @property
    def people(self) -> Locator:
        return self.page.get_by_role("list", name="People here").get_by_role("listitem")

    @property
    def link(self) -> Locator:
        return self.page.get_by_role("status")

    @property
    def log(self) -> Locator:
        return self.page.get_by_role("log")

    def said(self, text: str) -> Locator:
        """Messages of exactly this text that have been through the server."""
        return self.log.locator(".said:not(.pending) .bubble").filter(
            has_text=re.compile(f"^{re.escape(text)}$")
        )

    def screenshot(self, name: str) -> None:
        ARTIFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTIFACTS / f"{name}.png", animations="disabled")


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess("examples.chat:app") as running:
        yield running


@pytest.fixture
def ada(browser: Browser, server: ServerProcess) -> Iterator[Visitor]:
    visitor = Visitor(browser, server)
    yield visitor
    visitor.page.context.close()


@pytest.fixture
def björk(browser: Browser, server: ServerProcess) -> Iterator[Visitor]:
    visitor = Visitor(browser, server)
    yield visitor
    visitor.page.context.close()


def test_two_browsers_see_each_other_and_talk_both_ways(ada: Visitor, björk: Visitor) -> None:
    ada.join("Ada Lovelace")
    expect(ada.link).to_have_text("Connected")
    expect(ada.people).to_have_text([re.compile(r"Ada Lovelace \(you\)")])
    björk.join("Björk")
    for visitor in (ada, björk):
        expect(visitor.people).to_have_count(2)
    expect(ada.people.last).to_contain_text("Björk")
    expect(björk.people.last).to_contain_text("Ada Lovelace")

    ada.say("Good morning")
    björk.say("Góðan daginn — 早上好 🌞")
    for visitor in (ada, björk):
        expect(visitor.said("Good morning")).to_have_count(1)
        expect(visitor.said("Góðan daginn — 早上好 🌞")).to_have_count(1)
    assert ada.complaints == björk.complaints == []


def test_markup_in_a_message_a_name_and_a_room_is_shown_as_text(
    ada: Visitor, björk: Visitor
) -> None:
    ada.join("<i>Ada</i>")
    björk.join("Björk")
    expect(björk.people.last).to_contain_text("<i>Ada</i>")
    ada.say("<b>bold</b> <img src=x onerror=alert(1)>")
    expect(björk.said("<b>bold</b> <img src=x onerror=alert(1)>")).to_be_visible()
    assert björk.page.locator("#chat :is(b, i, img)").count() == 0
    assert ada.complaints == björk.complaints == []


def test_a_browser_that_is_killed_leaves_the_room(
    playwright: Playwright, server: ServerProcess, ada: Visitor
) -> None:
    ada.join("Ada")
    doomed = launch(playwright)
    try:
        Visitor(doomed, server).join("Grace")
        expect(ada.people).to_have_count(2)
        session = doomed.new_browser_cdp_session()
        processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
        # No CLOSE frame can come from a process that is killed.
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process["id"], signal.SIGKILL)
        expect(ada.people).to_have_count(1)
        expect(ada.log).to_contain_text("Grace left")
    finally:
        with suppress(Error):
            doomed.close()
    assert ada.complaints == []


def test_rooms_do_not_hear_each_other_and_keep_their_history(ada: Visitor, björk: Visitor) -> None:
    ada.join("Ada")
    björk.join("Björk")
    ada.say("said in the lobby")
    expect(björk.said("said in the lobby")).to_be_visible()

    björk.go_to("music")
    expect(björk.page.get_by_role("heading", level=1)).to_have_text("music")
    expect(björk.people).to_have_count(1)
    expect(ada.people).to_have_count(1)
    expect(björk.said("said in the lobby")).to_have_count(0)
    björk.say("said in music")
    expect(björk.said("said in music")).to_be_visible()
    ada.say("still in the lobby")
    expect(ada.said("still in the lobby")).to_be_visible()
    expect(ada.said("said in music")).to_have_count(0)

    björk.go_to("lobby")
    expect(björk.said("still in the lobby")).to_be_visible()
    expect(björk.said("said in music")).to_have_count(0)
    expect(ada.people).to_have_count(2)
    assert ada.complaints == björk.complaints == []


def test_a_room_that_somebody_opens_is_offered_to_everybody(ada: Visitor, björk: Visitor) -> None:
    ada.join("Ada")
    ada.page.get_by_label("Another room").fill("Schach_Café")
    ada.page.get_by_label("Another room").press("Enter")
    expect(ada.page.get_by_role("heading", level=1)).to_have_text("schach_café")
    björk.join("Björk")
    björk.go_to("schach_café")
    expect(ada.people).to_have_count(2)
    assert ada.complaints == björk.complaints == []


def test_a_name_that_is_taken_is_refused_with_the_reason_and_can_be_changed(
    ada: Visitor, björk: Visitor
) -> None:
    ada.join("Ada")
    expect(ada.link).to_have_text("Connected")
    björk.join("ADA")
    expect(björk.page.get_by_role("alert")).to_have_text("This name is taken in this room.")
    expect(björk.page.get_by_label("Your name")).to_be_focused()
    björk.join("Björk")
    expect(björk.people).to_have_count(2)
    assert ada.complaints == björk.complaints == []


def test_a_page_that_is_loaded_again_is_back_in_its_room_without_asking(ada: Visitor) -> None:
    ada.join("Ada", "ideas")
    ada.say("kept")
    expect(ada.said("kept")).to_be_visible()
    ada.page.reload()
    expect(ada.link).to_have_text("Connected")
    expect(ada.page.get_by_role("heading", level=1)).to_have_text("ideas")
    expect(ada.said("kept")).to_have_count(1)
    assert ada.complaints == []


def test_who_types_is_shown_to_the_others(ada: Visitor, björk: Visitor) -> None:
    ada.join("Ada")
    björk.join("Björk")
    expect(ada.people).to_have_count(2)
    björk.page.get_by_label("Message", exact=True).press_sequentially("Hm")
    expect(ada.page.get_by_text("Björk is typing…")).to_be_visible()
    björk.say("Hm.")
    expect(ada.said("Hm.")).to_be_visible()
    expect(ada.page.get_by_text("Björk is typing…")).to_have_count(0)


def test_the_page_reconnects_when_the_server_comes_back_and_sends_what_was_written_meanwhile(
    server: ServerProcess, ada: Visitor, björk: Visitor
) -> None:
    ada.join("Ada")
    björk.join("Björk")
    ada.say("before")
    expect(björk.said("before")).to_be_visible()
    assert ada.complaints == björk.complaints == []

    server.stop()
    for visitor in (ada, björk):
        expect(visitor.link).to_have_text("Reconnecting…")
    ada.say("meanwhile")
    expect(ada.log).to_contain_text("Sending…")
    expect(ada.said("meanwhile")).to_have_count(0)

    with ServerProcess("examples.chat:app", port=server.port):
        for visitor in (ada, björk):
            expect(visitor.link).to_have_text("Connected")
            expect(visitor.people).to_have_count(2)
            expect(visitor.said("before")).to_have_count(1)
            expect(visitor.said("meanwhile")).to_have_count(1)
    # Chromium itself reports the attempts that nobody answered; the page has nothing to add.
    for complaint in ada.complaints + björk.complaints:
        assert CONNECTION_REFUSED.search(complaint), complaint


def test_what_is_written_offline_waits_for_its_own_room(
    server: ServerProcess, ada: Visitor, björk: Visitor
) -> None:
    ada.join("Ada", "ideas")
    björk.join("Björk", "music")
    for visitor in (ada, björk):
        expect(visitor.link).to_have_text("Connected")
    server.stop()
    expect(ada.link).to_have_text("Reconnecting…")
    ada.say("for ideas alone")
    ada.go_to("music")
    expect(ada.page.get_by_text("for ideas alone")).to_have_count(0)
    with ServerProcess("examples.chat:app", port=server.port):
        expect(ada.link).to_have_text("Connected")
        expect(björk.people).to_have_count(2)
        ada.say("for music")
        expect(björk.said("for music")).to_be_visible()
        ada.go_to("ideas")
        expect(ada.said("for ideas alone")).to_have_count(1)
        expect(björk.said("for ideas alone")).to_have_count(0)


def test_it_is_usable_by_keyboard_alone(ada: Visitor) -> None:
    keyboard = ada.page.keyboard
    expect(ada.page.get_by_label("Your name")).to_be_focused()
    keyboard.type("Ada")
    keyboard.press("Enter")
    expect(ada.page.get_by_label("Message", exact=True)).to_be_focused()
    keyboard.type("first line")
    keyboard.press("Shift+Enter")
    keyboard.type("second line")
    keyboard.press("Enter")
    expect(ada.log.locator(".said:not(.pending) .bubble")).to_have_text("first line\nsecond line")
    expect(ada.page.get_by_label("Message", exact=True)).to_be_empty()


def test_on_a_phone_rooms_and_people_open_over_the_chat(ada: Visitor) -> None:
    ada.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    ada.join("Ada")
    opener = ada.page.get_by_role("button", name="Rooms and people", exact=True)
    expect(ada.people).to_have_count(0)
    opener.click()
    expect(ada.people).to_have_count(1)
    ada.page.keyboard.press("Escape")
    expect(ada.people).to_have_count(0)
    expect(opener).to_be_focused()
    opener.click()
    ada.go_to("music")
    expect(ada.page.get_by_role("heading", level=1)).to_have_text("music")
    expect(ada.people).to_have_count(0)
    width = ada.page.evaluate("document.documentElement.scrollWidth")
    assert width == PHONE[0], "the page scrolls sideways"


def test_screenshots_of_both_themes_and_of_a_phone(
    browser: Browser, server: ServerProcess, ada: Visitor, björk: Visitor
) -> None:
    ada.screenshot("join-light")
    ada.join("Ada Lovelace")
    björk.join("Björk")
    grace = Visitor(browser, server)
    grace.join("Grace Hopper")
    for visitor, text in (
        (ada, "Good morning! Is the new build out?"),
        (björk, "Since last night. Two rooms, a few hundred people, and it idles at 1 % CPU."),
        (björk, "Góðan daginn, by the way"),
        (grace, "Then I have a question: what happens to a message that I write while offline?"),
        (ada, "It waits at the end of the list and is sent when you are back."),
        (ada, "Try it: stop the server,\nwrite something,\nstart it again."),
        (grace, "Nice. Trying <b>now</b> …"),
    ):
        visitor.say(text)
        expect(ada.said(text)).to_be_visible()
    björk.page.get_by_label("Message", exact=True).press_sequentially("Let me know")
    expect(ada.page.get_by_text("Björk is typing…")).to_be_visible()
    for theme in ("light", "dark"):
        ada.page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        ada.page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
        ada.screenshot(f"chat-{theme}")
        ada.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        ada.screenshot(f"phone-{theme}")
        ada.page.get_by_role("button", name="Rooms and people", exact=True).click()
        ada.screenshot(f"phone-people-{theme}")
        ada.page.keyboard.press("Escape")
    grace.page.context.close()
    assert ada.complaints == björk.complaints == grace.complaints == []
