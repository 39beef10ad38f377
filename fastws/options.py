"""What an option is: its name, the values it takes, its default, and what it is for.

The options themselves are declared in ``config.py``, the kinds of values in ``kinds.py``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["ConfigError", "Kind", "Option", "did_you_mean"]


class ConfigError(ValueError):
    """An option has a value that it does not take. The message is one sentence for the user.

    Parameters:
        sentence: the message.
        options: the keywords of the options that it is about, if each of them could be given
            another value; where they were set is then added for the user.
    """

    def __init__(self, sentence: str, options: Iterable[str] = ()) -> None:
        super().__init__(sentence)
        self.options = tuple(options)


@dataclass(frozen=True)
class Kind:
    """The values an option takes.

    Parameters:
        metavar: what ``--help`` shows in the value's place; ``""`` for a flag without a value.
        accepts: completes the sentence "expected …".
        parse: the value in its internal form; raises ``ValueError`` for one that is not accepted.
            It takes the internal form too, and returns it as it is.
        show: the internal form as a user would write it.
        repeated: whether the option may be given several times on a command line.
        separator: what stands between several values in one text; ``None`` where nothing can.
        is_path: whether it names files, which a file of options has relative to itself.
        is_secret: whether no message and no table may show it.
    """

    metavar: str
    accepts: str
    parse: Callable[[object], Any]
    show: Callable[[Any], str] = str
    repeated: bool = False
    separator: str | None = None
    is_path: bool = False
    is_secret: bool = False


@dataclass(frozen=True)
class Option:
    """One option of the server: everything that is known about it.

    Parameters:
        name: as on the command line, such as ``ws-max-size``.
        kind: the values it takes.
        default: in internal form.
        group: the heading it stands under in ``--help`` and in the documentation.
        help: one sentence, without its default.
        per_route: whether ``@app.websocket`` takes it too.
        aliases: other names for it.
        variables: environment variables of other programs that set it too, where ``FASTWS_…`` does
            not.
    """

    name: str
    kind: Kind
    default: Any
    group: str
    help: str
    per_route: bool = False
    aliases: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    @property
    def keyword(self) -> str:
        """The name as a Python keyword, such as ``ws_max_size``."""
        return self.name.replace("-", "_")

    @property
    def environment(self) -> tuple[str, ...]:
        """The environment variables that set it; the first of them that is set does."""
        own = (f"FASTWS_{name.replace('-', '_').upper()}" for name in (self.name, *self.aliases))
        return (*own, *self.variables)

    @property
    def default_text(self) -> str:
        """The default as a user would write it."""
        return self.kind.show(self.default)

    def parse(self, value: object) -> Any:
        """Return ``value`` in internal form.

        Raises:
            ConfigError: with a sentence that names the option, the value and what is accepted.
        """
        try:
            return self.kind.parse(value)
        except (ValueError, TypeError, AttributeError):
            shown = value if isinstance(value, str) else repr(value)
            if value and isinstance(value, tuple):
                # Words of a command line, without Python's quotes.
                shown = ", ".join(map(str, value))
            if self.kind.is_secret:
                shown = "something else"
            elif not shown:
                shown = "empty"
            raise ConfigError(f"{self.name} is {shown}: expected {self.kind.accepts}") from None


def did_you_mean(name: str, names: Iterable[str], *, prefix: str = "") -> str:
    """The end of a sentence that says what does not exist; empty if nothing has a like name.

    Parameters:
        name: what was written.
        names: what exists.
        prefix: what all of these have in common, which makes none more like another.
    """
    ends = [known.removeprefix(prefix) for known in names]
    close = difflib.get_close_matches(name.removeprefix(prefix), ends, n=1)
    return f": did you mean {prefix}{close[0]}?" if close else ""
