"""``fastws connect URL``: a client for people and for scripts."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import os
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import click

from fastws.client import CLIENT_OPTIONS, ClientWebSocket, connect
from fastws.client_handshake import HandshakeRefused
from fastws.config import ConfigError
from fastws.exceptions import HandshakeError, WebSocketDisconnect
from fastws.kinds import duration
from fastws.options import Option
from fastws.terminal import PlainScreen, Screen, Terminal, escaped

__all__ = ["command"]

CLOSED, NOT_OPENED, MISUSED, BROKEN = 0, 1, 2, 3
"""What the exit status says."""

INTERRUPTED = 130

HELP = """\
Connect to a WebSocket server.

On a terminal it asks for messages: each line is sent as text, and a line that begins with a slash
is a command (try /help). Ctrl-D closes the connection.

In a pipe each line of standard input is sent as a text message, and each message received becomes
a line of standard output (a binary one as /hex and its bytes). At the end of the input it waits
for the server to close, or for the time of --wait.

URL is ws://host/path or wss://host/path; without a scheme it is ws.
"""

EPILOG = """\
The exit status is 0 if the connection was closed with 1000, or without a code; 3 if it ended
otherwise; 1 if it was not opened; 2 if this command was not understood.
"""

COMMANDS = """\
/hex 01 ff        send bytes, in hexadecimal
/ping [TEXT]      send a PING, and show the time until its PONG
/close [CODE [REASON]]
//text            send a text that begins with a slash
/help             show this
Ctrl-D            close with 1000"""


class Mistake(Exception):
    """A line that cannot be sent. The message is one sentence for the user."""


# What is typed


class Ping(NamedTuple):
    data: bytes


class Close(NamedTuple):
    code: int
    reason: str


class Help(NamedTuple):
    pass


def parse_line(line: str) -> str | bytes | Ping | Close | Help:
    """What a line typed asks for: a text or bytes to send, or something else to do.

    Raises:
        Mistake: it begins with a slash, and is no command.
    """
    if not line.startswith("/"):
        return line
    if line.startswith("//"):
        return line[1:]
    word, _, rest = line[1:].partition(" ")
    rest = rest.strip()
    if word == "hex":
        try:
            return bytes.fromhex(rest)
        except ValueError:
            raise Mistake(f"/hex {rest}: expected pairs of hexadecimal digits") from None
    if word == "ping":
        return Ping(rest.encode("utf-8"))
    if word == "close":
        code, _, reason = rest.partition(" ")
        if code and not (code.isascii() and code.isdigit()):
            raise Mistake(f"/close {rest}: expected a close code such as 1000, then the reason")
        return Close(int(code or 1000), reason.strip())
    if word == "help":
        return Help()
    raise Mistake(f"there is no command /{word}: /help lists them, // sends a slash")


async def perform(ws: ClientWebSocket, screen: Screen, line: str) -> None:
    """Do what a line typed asks for."""
    try:
        what = parse_line(line)
        if isinstance(what, str):
            await ws.send_text(what)
            screen.sent(what)
        elif isinstance(what, bytes):
            await ws.send_bytes(what)
            screen.sent(what)
        elif isinstance(what, Ping):
            # Not waited for: the answer may never come.
            ws.tasks.create_task(_tell_pong(ws.ping(what.data), screen))
        elif isinstance(what, Close):
            await ws.close(what.code, what.reason)
        else:
            screen.note(COMMANDS)
    except (Mistake, ValueError) as error:
        screen.error(str(error))
    except WebSocketDisconnect:
        # How it ended is shown by whoever receives.
        pass


async def _tell_pong(pong: Coroutine[Any, Any, float], screen: Screen) -> None:
    seconds = await pong
    screen.note(f"PONG after {1000 * seconds:.1f} ms")


# On a terminal


async def converse(ws: ClientWebSocket, terminal: Terminal) -> None:
    """Ask for lines, and show messages above the prompt, until either side ends."""
    listening = asyncio.create_task(_listen(ws, terminal))
    asking: asyncio.Task[str] | None = None
    try:
        while not listening.done():
            asking = asyncio.create_task(terminal.ask())
            await asyncio.wait({asking, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                break
            try:
                line = asking.result()
            except EOFError:
                break
            if line:
                await perform(ws, terminal, line)
    finally:
        # A prompt that is cancelled puts the terminal back in order.
        unfinished = {task for task in (asking, listening) if task is not None and not task.done()}
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)
    if not listening.cancelled():
        listening.result()


async def _listen(ws: ClientWebSocket, screen: Screen) -> None:
    async for message in ws:
        screen.received(message)


# In a pipe


async def stream(
    ws: ClientWebSocket, screen: Screen, *, wait: float | None, commands: bool
) -> None:
    """Send what comes from standard input, and write what the server sends, until it closes.

    Parameters:
        wait: seconds from the end of the input until this end closes; ``None`` waits for the
            server.
        commands: whether lines that begin with a slash are commands.
    """
    sending = asyncio.create_task(_send_input(ws, screen, wait, commands))
    listening = asyncio.create_task(_listen(ws, screen))
    try:
        await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
        await asyncio.wait({listening})
        listening.result()
    except (BrokenPipeError, Mistake):
        # Nobody reads any more, as behind `head`; or what comes cannot be sent. Neither is a fault
        # of the connection.
        await ws.close()
        raise
    finally:
        for task in (sending, listening):
            task.cancel()
        await asyncio.gather(sending, listening, return_exceptions=True)


async def _send_input(
    ws: ClientWebSocket, screen: Screen, wait: float | None, commands: bool
) -> None:
    number = 0
    async for line in _input_lines():
        number += 1
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            raise Mistake(
                f"line {number} of the input is not UTF-8: --commands sends bytes, as /hex 01ff"
            ) from None
        if commands:
            await perform(ws, screen, text)
        else:
            try:
                await ws.send_text(text)
            except WebSocketDisconnect:
                return
    if wait is not None:
        await asyncio.sleep(wait)
        await ws.close(1000)


async def _input_lines() -> AsyncIterator[bytes]:
    """The lines of standard input, without their ends."""
    loop = asyncio.get_running_loop()
    # Few, so that a fast writer waits for a slow server.
    lines: asyncio.Queue[bytes | None] = asyncio.Queue(16)

    def read() -> None:
        # A thread, since an event loop cannot wait for files; and of its own, since one of a pool
        # would be waited for at the end. The descriptor itself, since a thread left behind in
        # sys.stdin would hold its lock.
        for line in itertools.chain(_split(0), (None,)):
            putting = lines.put(line)
            try:
                asyncio.run_coroutine_threadsafe(putting, loop).result()
            except (RuntimeError, concurrent.futures.CancelledError):
                # The loop is closed, or about to be.
                putting.close()
                return

    threading.Thread(target=read, daemon=True, name="stdin").start()
    while (line := await lines.get()) is not None:
        yield line


def _split(descriptor: int) -> Iterator[bytes]:
    rest = b""
    while data := os.read(descriptor, 65536):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest


# The command


def _declared(option: Option) -> click.Option:
    """The command line's form of a client's option. Its value is handed on as it was typed."""
    return click.Option(
        [f"--{option.name}", option.keyword],
        metavar=option.kind.metavar,
        help=f"{option.help}.  [{option.default_text}]",
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ConfigError(f"header is {text}: expected NAME:VALUE")
    return name.strip(), value.strip()


def _ssl_context(insecure: bool, ca_certs: str | None) -> ssl.SSLContext | None:
    if insecure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if ca_certs is not None:
        try:
            return ssl.create_default_context(cafile=ca_certs)
        except OSError as error:
            raise ConfigError(
                f"ca-certs is {ca_certs}: expected a file of certificates (PEM): {error}"
            ) from None
    return None


def _connection(typed: Mapping[str, Any]) -> tuple[connect, float | None]:
    """What was typed, as a connection that is to be opened and the seconds of --wait.

    Raises:
        ValueError: something of it is not accepted.
    """
    url: str = typed["url"]
    given = {name: typed[name] for name in CLIENT_OPTIONS if typed[name] is not None}
    try:
        wait = duration(optional=True).parse(typed["wait"])
    except (ValueError, TypeError):
        raise ConfigError(
            f"wait is {typed['wait']}: expected {duration(optional=True).accepts}"
        ) from None
    uri = url if "://" in url else f"ws://{url}"
    context = _ssl_context(typed["insecure"], typed["ca_certs"])
    if not uri.lower().startswith("wss:"):
        # Of use only where there is TLS.
        context = None
    opening = connect(
        uri,
        subprotocols=typed["subprotocol"],
        headers=[_header(text) for text in typed["header"]],
        origin=typed["origin"],
        compression=typed["compression"],
        ssl=context,
        proxy={None: True, "none": None}.get(typed["proxy"], typed["proxy"]),
        max_redirects=typed["max_redirects"],
        open_timeout=typed["open_timeout"],
        **given,
    )
    return opening, wait


async def _talk(opening: connect, screen: Screen, wait: float | None, commands: bool) -> int:
    async with opening as ws:
        said = f"connected to {ws.url}"
        if ws.subprotocol is not None:
            said += f", subprotocol {ws.subprotocol}"
        if isinstance(screen, Terminal):
            with screen.raw_mode():
                screen.note(said)
                await converse(ws, screen)
        else:
            screen.note(said)
            await stream(ws, screen, wait=wait, commands=commands)
    code, reason = ws.close_code, ws.close_reason
    screen.note(f"closed with {code}" + (f": {reason}" if reason else ""))
    return CLOSED if code in (1000, 1005) else BROKEN


def _connect(**typed: Any) -> None:
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        screen = Terminal() if on_terminal else PlainScreen(quiet=typed["quiet"])
        opening, wait = _connection(typed)
    except ImportError:
        _end(
            "fastws connect needs the package prompt-toolkit on a terminal: install it with "
            "`pip install prompt-toolkit`",
            MISUSED,
        )
    except (ValueError, TypeError) as error:
        _end(str(error), MISUSED)
    try:
        status = asyncio.run(_talk(opening, screen, wait, typed["commands"]))
    except BrokenPipeError:
        # click knows what to do where nobody reads standard output any more.
        raise
    except Mistake as error:
        _end(str(error), MISUSED)
    except HandshakeRefused as refusal:
        body = refusal.body.decode("utf-8", "replace").strip()
        _end(refusal.message + (f"\n{escaped(body)}" if body else ""), NOT_OPENED)
    except HandshakeError as error:
        _end(error.message, NOT_OPENED)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except OSError as error:
        _end(f"no connection to {typed['url']}: {error}", NOT_OPENED)
    sys.exit(status)


def _end(text: str, status: int) -> NoReturn:
    click.echo(f"fastws: {text}", err=True)
    sys.exit(status)


_Option = click.Option

command = click.Command(
    "connect",
    callback=_connect,
    help=HELP,
    epilog=EPILOG,
    params=[
        click.Argument(["url"], metavar="URL"),
        _Option(["-s", "--subprotocol"], multiple=True, help="Subprotocol to offer; repeatable."),
        _Option(
            ["-H", "--header"],
            multiple=True,
            metavar="NAME:VALUE",
            help="Header to add to the request; repeatable.",
        ),
        _Option(["--origin"], help="Origin to send, as a browser does."),
        _Option(
            ["--compression"],
            default="off",
            metavar="off|shared|dedicated",
            help="Compression to offer.  [off]",
        ),
        _Option(
            ["-k", "--insecure"],
            is_flag=True,
            help="Do not verify the server's certificate: for tests only.",
        ),
        _Option(["--ca-certs"], metavar="PATH", help="Authorities to trust instead (PEM)."),
        _Option(
            ["--proxy"],
            metavar="URL|none",
            help="HTTP proxy, instead of the environment's; none connects directly.",
        ),
        _Option(["--max-redirects"], type=int, default=5, help="Redirects to follow.  [5]"),
        _Option(
            ["--open-timeout"],
            default="10s",
            metavar="TIME",
            help="Time to connect, all included.  [10s]",
        ),
        _Option(
            ["--wait"],
            default="none",
            metavar="TIME",
            help="In a pipe: time for answers after the end of the input; none waits for the"
            " server to close.  [none]",
        ),
        _Option(
            ["--commands"], is_flag=True, help="In a pipe: lines that begin with / are commands."
        ),
        _Option(["-q", "--quiet"], is_flag=True, help="In a pipe: messages only."),
        *(_declared(option) for option in CLIENT_OPTIONS.values()),
    ],
)
