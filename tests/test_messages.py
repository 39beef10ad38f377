"""Typed messages: what is read into which type, what is told about the rest, and what is sent."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import json
import logging
import pickle
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, TypedDict, TypeVar

import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from websockets.exceptions import ConnectionClosed

from fastws._json import encode_json
from fastws.app import FastWS
from fastws.exceptions import MessageError, WebSocketTypeError, ending_of
from fastws.messages import decoder_of, encoder_of, message_types
from fastws.routing import APIRouter
from fastws.websocket import TypedWebSocket, WebSocket
from tests.asgi_servers import SERVERS, Client, close_of, running
from tests.support import ROOT, TIMEOUT, run

T = TypeVar("T")


class User(msgspec.Struct):
    name: str
    age: int = 0
    tags: list[str] = []
    scores: dict[str, int] = {}


class Join(msgspec.Struct, tag="join"):
    room: str


class Say(msgspec.Struct, tag="say", forbid_unknown_fields=True):
    room: str
    text: Annotated[str, msgspec.Meta(min_length=1)]


class Page(msgspec.Struct, Generic[T]):
    items: list[T]


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Options(TypedDict, total=False):
    limit: int


class Model(pydantic.BaseModel):
    n: int
    names: list[str] = []


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


Pet = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


@pydantic.dataclasses.dataclass
class Checked:
    n: int


class Holder(msgspec.Struct):
    model: Model


@dataclasses.dataclass(unsafe_hash=False)
class Unhashable:
    """Metadata that cannot be the key of a cache."""

    __hash__ = None  # type: ignore[assignment]


# Reading


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        (User, '{"name":"ann","age":7}', User("ann", 7)),
        (Join | Say, '{"type":"say","room":"a","text":"b"}', Say("a", "b")),
        (Page[User], '{"items":[{"name":"ann"}]}', Page([User("ann")])),
        (Point, '{"x":1}', Point(1)),
        (Options, '{"limit":5}', {"limit": 5}),
        (list[int], "[1,2]", [1, 2]),
        (dict[str, float], '{"a":1.5}', {"a": 1.5}),
        (int | None, "null", None),
        (datetime, '"2030-01-31T12:00:00Z"', datetime(2030, 1, 31, 12, tzinfo=timezone.utc)),
        (uuid.UUID, f'"{uuid.UUID(int=5)}"', uuid.UUID(int=5)),
        (Any, '{"a":[1]}', {"a": [1]}),
        (Annotated[int, Unhashable()], "5", 5),
        (Model, '{"n":1,"names":["a"]}', Model(n=1, names=["a"])),
        (Pet, '{"kind":"dog","tricks":["sit"]}', Dog(kind="dog", tricks=["sit"])),
        (list[Model], '[{"n":1}]', [Model(n=1)]),
        (Checked, '{"n":1}', Checked(1)),
        (Holder, '{"model":{"n":1}}', Holder(Model(n=1))),
    ],
)
def test_a_message_is_read_into_its_type(type: Any, text: str, value: object) -> None:
    decode = decoder_of(type)
    assert decode(text) == value
    assert decode(text.encode()) == value


def test_the_function_for_a_type_is_made_once() -> None:
    assert decoder_of(User) is decoder_of(User)
    assert decoder_of(Join | Say) is decoder_of(Join | Say)
    assert decoder_of(Model) is decoder_of(Model)


REQUIRED = "the field is required"


@pytest.mark.parametrize(
    ("type", "text", "field", "sentence"),
    [
        (User, '{"age":1}', "name", "the field 'name' of the message is missing"),
        (
            User,
            '{"name":5}',
            "name",
            "the field 'name' of the message is not valid: expected str, got int",
        ),
        (
            User,
            '{"name":"a","tags":["b",5]}',
            "tags[1]",
            "the field 'tags[1]' of the message is not valid: expected str, got int",
        ),
        (
            User,
            '{"name":"a","scores":{"b":"c"}}',
            "scores[...]",
            "the field 'scores[...]' of the message is not valid: expected int, got str",
        ),
        (
            Page[User],
            '{"items":[{"name":"a"},{}]}',
            "items[1].name",
            "the field 'items[1].name' of the message is missing",
        ),
        (User, "[]", "", "the message is not valid: expected object, got array"),
        (
            Join | Say,
            '{"type":"leave"}',
            "type",
            "the field 'type' of the message is not valid: invalid value 'leave'",
        ),
        (Join | Say, "{}", "type", "the field 'type' of the message is missing"),
        (
            Say,
            '{"type":"say","room":"a","text":""}',
            "text",
            "the field 'text' of the message is not valid: expected str of length >= 1",
        ),
        (
            Say,
            '{"type":"say","room":"a","text":"b","evil - at `$.x`":1}',
            "evil - at `$.x`",
            "the field 'evil - at `$.x`' of the message is not valid: there is no such field",
        ),
        (
            dict[int, int],
            '{"a":1}',
            "",
            "the message is not valid: as a key: expected int, got str",
        ),
        (Point, "{}", "x", "the field 'x' of the message is missing"),
        (Model, "{}", "n", "the field 'n' of the message is missing"),
        (
            Holder,
            '{"model":{"n":1,"names":[5]}}',
            "model.names[0]",
            "the field 'model.names[0]' of the message is not valid: "
            "Input should be a valid string",
        ),
        (Pet, '{"kind":"cat"}', "cat.lives", "the field 'cat.lives' of the message is missing"),
    ],
)
def test_what_does_not_fit_is_told_with_its_field(
    type: Any, text: str, field: str, sentence: str
) -> None:
    with pytest.raises(MessageError) as caught:
        decoder_of(type)(text)
    assert str(caught.value) == sentence
    assert caught.value.field == field
    assert caught.value.data == text
    (error,) = caught.value.errors
    assert error.keys() == {"loc", "msg", "type"}
    assert isinstance(caught.value, ValueError)
    assert ending_of(caught.value)[:2] == (1007, sentence)


def test_every_mistake_that_pydantic_finds_is_told() -> None:
    with pytest.raises(MessageError) as caught:
        decoder_of(Model)('{"names":[1]}')
    assert [error["loc"] for error in caught.value.errors] == [["n"], ["names", 0]]
    assert [error["type"] for error in caught.value.errors] == ["missing", "string_type"]
    assert "'n' of the message is missing; the field 'names[0]'" in str(caught.value)
    assert isinstance(caught.value.__cause__, pydantic.ValidationError)


@pytest.mark.parametrize("type", [User, Any, Model])
@pytest.mark.parametrize("text", ["", "{", "nope", '{"name":"a","n":1}x'])
def test_what_is_no_json_is_told_so(type: Any, text: str) -> None:
    with pytest.raises(MessageError, match="the message is not JSON: ") as caught:
        decoder_of(type)(text)
    assert caught.value.field == ""
    assert caught.value.errors[0]["type"] == "json_invalid"


@pytest.mark.parametrize("type", [User, Any, Model])
def test_nesting_without_end_is_no_failure(type: Any) -> None:
    with pytest.raises(MessageError):
        decoder_of(type)("[" * 100_000)


@pytest.mark.parametrize("type", [User, Model])
def test_bytes_that_are_no_utf_8_are_no_json(type: Any) -> None:
    with pytest.raises(MessageError, match="the message is not JSON: "):
        decoder_of(type)(b'{"name":"\xff","n":1,"names":["\xff"]}')


def test_the_sentence_in_a_close_fits_into_the_frame() -> None:
    with pytest.raises(MessageError) as caught:
        decoder_of(Say)('{"type":"say","room":"a","text":"b","%s":1}' % ("é" * 500))
    code, reason = ending_of(caught.value)[:2]
    assert code == 1007
    assert len(reason.encode()) <= 123


def test_a_message_error_survives_pickling() -> None:
    error = MessageError("x", [{"loc": ["a", 1, "b"], "msg": "m", "type": "t"}], "data")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.errors, again.data) == ("x", error.errors, "data")
    assert again.field == "a[1].b"
    assert MessageError("x").field == ""


@pytest.mark.parametrize("type", [Point | Options, 5, lambda: 0])
def test_what_is_no_type_of_a_message_is_refused_with_a_sentence(type: Any) -> None:
    for make in (decoder_of, encoder_of):
        with pytest.raises(TypeError, match="messages cannot be of type"):
            make(type)


def test_structs_without_tags_can_be_sent_though_not_received() -> None:
    with pytest.raises(TypeError, match="messages cannot be of type"):
        decoder_of(User | Point)
    encode = encoder_of(User | Point)
    assert encode(Point(1)) == b'{"x":1,"y":0}'
    with pytest.raises(TypeError, match="got dict: the message is not valid: not one of them"):
        encode({"x": 1})
    with pytest.raises(TypeError, match="messages cannot be of type"):
        encoder_of(User | Options)


def test_a_type_within_that_json_does_not_have_is_a_mistake_of_the_program() -> None:
    class Strange(msgspec.Struct):
        value: complex

    with pytest.raises(MessageError, match="there is no complex in JSON"):
        decoder_of(Strange)('{"value":1}')


# Writing


@pytest.mark.parametrize(
    ("type", "obj", "text"),
    [
        (User, User("ann", tags=["a"]), b'{"name":"ann","age":0,"tags":["a"],"scores":{}}'),
        (User, {"name": "ann"}, b'{"name":"ann","age":0,"tags":[],"scores":{}}'),
        (Join | Say, Join("a"), b'{"type":"join","room":"a"}'),
        (Join | Say, {"type": "say", "room": "a", "text": "b"}, None),
        (Page[User], Page([User("ann")]), None),
        (Point, Point(1), b'{"x":1,"y":0}'),
        (Options, {"limit": 5}, b'{"limit":5}'),
        (list[int], [1, 2], b"[1,2]"),
        (int | None, None, b"null"),
        (Model, Model(n=1), b'{"n":1,"names":[]}'),
        (Model, {"n": 1}, b'{"n":1,"names":[]}'),
        (Pet, Cat(kind="cat", lives=9), b'{"kind":"cat","lives":9}'),
        (list[Model], [Model(n=1)], b'[{"n":1,"names":[]}]'),
        (Checked, Checked(1), b'{"n":1}'),
        (Holder, Holder(Model(n=1)), b'{"model":{"n":1,"names":[]}}'),
    ],
)
def test_an_object_of_the_type_is_written(type: Any, obj: object, text: bytes | None) -> None:
    written = encoder_of(type)(obj)
    if text is not None:
        assert written == text
    again = decoder_of(type)(written)
    assert encoder_of(type)(again) == written


@pytest.mark.parametrize(
    ("type", "obj", "sentence"),
    [
        (User, Join("a"), "sends User, and send_json.. got Join: .*expected object, got Join"),
        (User, {"name": 5}, "got dict: the field 'name' of the message is not valid"),
        (Options, {"limit": "x"}, "got dict: the field 'limit'"),
        (Model, {"n": "x"}, "sends Model, and send_json.. got dict: the field 'n'"),
        (Model, User("ann"), "sends Model, and send_json.. got User"),
        (list[Model], [User("ann")], "got list: the field '.0.'"),
    ],
)
def test_an_object_of_another_type_is_the_programs_mistake(
    type: Any, obj: object, sentence: str
) -> None:
    with pytest.raises(TypeError, match=f"this route .*{sentence}"):
        encoder_of(type)(obj)


def test_what_has_a_form_in_json_without_saying_so() -> None:
    class Color(enum.Enum):
        RED = "red"

    obj = {
        "struct": Join("a"),
        "model": Model(n=1),
        "dataclass": Point(1),
        "checked": Checked(1),
        "nested": Holder(Model(n=1)),
        "in a list": [Say("a", "b")],
        "when": datetime(2030, 1, 31, tzinfo=timezone.utc),
        "id": uuid.UUID(int=5),
        "enum": Color.RED,
        "decimal": Decimal("1.50"),
        "path": PurePosixPath("/a"),
        "set": {1},
        5: "five",
    }
    assert json.loads(encode_json(obj)) == {
        "struct": {"type": "join", "room": "a"},
        "model": {"n": 1, "names": []},
        "dataclass": {"x": 1, "y": 0},
        "checked": {"n": 1},
        "nested": {"model": {"n": 1, "names": []}},
        "in a list": [{"type": "say", "room": "a", "text": "b"}],
        "when": "2030-01-31T00:00:00+00:00",
        "id": str(uuid.UUID(int=5)),
        "enum": "red",
        "decimal": "1.50",
        "path": "/a",
        "set": [1],
        "5": "five",
    }


@pytest.mark.parametrize("obj", [object(), {"a": object()}, b"bytes", {"a": b"bytes"}])
def test_what_has_no_form_in_json_is_a_type_error(obj: object) -> None:
    with pytest.raises(TypeError):
        encode_json(obj)


def test_something_without_a_form_inside_of_a_struct_is_a_type_error() -> None:
    class Box(msgspec.Struct):
        value: object

    with pytest.raises(TypeError):
        encode_json(Box(object()))


def test_pydantic_is_not_imported_before_a_model_is_given() -> None:
    program = (
        "import sys, msgspec, fastws\n"
        "from fastws.messages import decoder_of, encoder_of\n"
        "class A(msgspec.Struct): x: int\n"
        "assert encoder_of(A)(decoder_of(A)('{\"x\":1}')) == b'{\"x\":1}'\n"
        "assert 'pydantic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=4 * TIMEOUT)


# Connections


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def play(server: str, app: FastWS, path: str, *messages: str | bytes) -> list[Any]:
    """Send messages; return the answers, and how the server closed."""

    async def main() -> list[Any]:
        async with running(app, server) as address:
            async with Client(address, server).open(path) as ws:
                for message in messages:
                    await ws.send(message)
                answers: list[Any] = []
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        answers.append(await ws.recv())
                return [*answers, await close_of(ws)]

    return run(main())


def test_a_type_may_be_given_to_each_receive(server: str) -> None:
    app = FastWS()

    @app.websocket("/")
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        user = await ws.receive_json(type=User)
        point = await ws.receive_json(mode="binary", type=Point)
        model = await ws.receive_json("text", TIMEOUT, type=Model)
        plain = await ws.receive_json()
        event: Join | Say = await ws.receive_json(type=Join | Say)
        await ws.send_json([user, point, model, plain, event])

    assert play(
        server,
        app,
        "/",
        '{"name":"ann"}',
        b'{"x":1}',
        '{"n":2}',
        "[3]",
        '{"type":"join","room":"r"}',
    ) == [
        '[{"name":"ann","age":0,"tags":[],"scores":{}},{"x":1,"y":0},{"n":2,"names":[]},[3],'
        '{"type":"join","room":"r"}]',
        (1000, ""),
    ]


def test_a_wrong_message_that_is_caught_does_not_end_the_connection(server: str) -> None:
    app = FastWS()

    @app.websocket("/")
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await ws.receive_json(type=User)
        except MessageError as error:
            await ws.send_json({"field": error.field, "errors": error.errors})
        user = await ws.receive_json(type=User)
        await ws.send_text(user.name)

    errors = '{"field":"name","errors":[{"loc":["name"],"msg":"the field is required",'
    assert play(server, app, "/", "{}", '{"name":"ann"}') == [
        errors + '"type":"missing"}]}',
        "ann",
        (1000, ""),
    ]


def test_a_wrong_message_that_is_not_caught_closes_with_1007_and_the_sentence(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastWS()

    @app.websocket("/")
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        await ws.receive_json(type=User)

    assert play(server, app, "/", "{}") == [(1007, "the field 'name' of the message is missing")]
    # A peer's mistake is no failure of the program.
    assert [record for record in caplog.records if record.name == "fastws.error"] == []


def test_a_message_of_the_other_kind_says_which_mode(server: str) -> None:
    app = FastWS()
    seen: list[WebSocketTypeError] = []

    @app.websocket("/")
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        for mode in ("text", "binary"):
            try:
                await ws.receive_json(mode, type=User)
            except WebSocketTypeError as error:
                seen.append(error)
        with pytest.raises(RuntimeError, match="mode is 'json': expected 'text' or 'binary'"):
            await ws.receive_json("json", type=User)
        with pytest.raises(TimeoutError):
            await ws.receive_json(timeout=0, type=User)

    assert play(server, app, "/", b"{}", "{}") == [(1000, "")]
    assert [error.data for error in seen] == [b"{}", "{}"]
    assert 'pass mode="binary"' in str(seen[0])
    assert 'pass mode="text"' in str(seen[1])


def test_iterating_over_messages_of_a_type(server: str) -> None:
    app = FastWS()

    @app.websocket("/")
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        users: AsyncIterator[User] = ws.iter_json(type=User)
        async for user in users:
            await ws.send_text(user.name)
            if user.age:
                return

    messages = ['{"name":"a"}', '{"name":"b"}', '{"name":"c","age":1}']
    assert play(server, app, "/", *messages) == ["a", "b", "c", (1000, "")]


def test_the_types_of_a_route(server: str) -> None:
    app, router = FastWS(), APIRouter(prefix="/v1")

    @router.websocket("/rooms/{room}", receive=Join | Say, send=Point)
    async def endpoint(ws: TypedWebSocket[Join | Say, Any], room: str) -> None:
        await ws.accept()
        first = await ws.receive_json()
        assert isinstance(first, Join)
        await ws.send_json(Point(len(first.room)))
        # One receive may want another type.
        await ws.send_json(await ws.receive_json(type=Point))
        async for message in ws:
            assert isinstance(message, Say)
            await ws.send_json({"x": len(message.text)}, mode="binary")
            break
        async for again in ws.iter_json():
            assert isinstance(again, Say)
            break
        with pytest.raises(TypeError, match="this route sends"):
            await ws.send_json([again])
        with pytest.raises(RuntimeError, match="mode is 'json'"):
            await ws.send_json(Point(1), "json")
        await ws.receive_json()

    app.include_router(router)
    assert play(
        server,
        app,
        "/v1/rooms/a",
        '{"type":"join","room":"a"}',
        '{"x":5}',
        b'{"type":"say","room":"a","text":"hello"}',
        '{"type":"say","room":"a","text":"again"}',
        '{"type":"say"}',
    ) == [
        '{"x":1,"y":0}',
        '{"x":5,"y":0}',
        b'{"x":5,"y":0}',
        (1007, "the field 'room' of the message is missing"),
    ]


@pytest.mark.parametrize("direction", ["receive", "send"])
def test_a_route_may_have_a_type_in_one_direction(server: str, direction: str) -> None:
    app = FastWS()
    types: dict[str, Any] = {direction: Model}

    @app.websocket("/", **types)
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        received = await ws.receive_json()
        item: Any = await anext(ws)
        if direction == "receive":
            assert received == item == Model(n=1)
            await ws.send_json({"anything": "goes"})
        else:
            assert received == {"n": 1}
            assert item == '{"n":1}'
            await ws.send_json(Model(n=1))

    answer = '{"anything":"goes"}' if direction == "receive" else '{"n":1,"names":[]}'
    assert play(server, app, "/", '{"n":1}', '{"n":1}') == [answer, (1000, "")]


def test_a_wrong_object_to_send_is_a_failure_of_the_program(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastWS()

    @app.websocket("/", send=User)
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_json({"name": 5})

    assert play(server, app, "/") == [(1011, "")]
    assert "this route sends User" in caplog.text
    assert any(record.levelno == logging.ERROR for record in caplog.records)


def test_iteration_over_a_typed_route_ends_with_the_connection(server: str) -> None:
    app = FastWS()
    seen: list[Any] = []
    over = asyncio.Event()

    @app.websocket("/", receive=User)
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        seen.extend([message async for message in ws])
        over.set()

    async def main() -> None:
        async with running(app, server) as address:
            async with Client(address, server).open("/") as ws:
                await ws.send('{"name":"ann"}')
            await asyncio.wait_for(over.wait(), TIMEOUT)

    run(main())
    assert seen == [User("ann")]


def test_a_type_that_json_has_no_form_for_is_refused_at_registration() -> None:
    app = FastWS()

    async def endpoint(ws: WebSocket) -> None: ...

    with pytest.raises(TypeError, match="messages cannot be of type"):
        app.websocket("/", receive=Point | Options)(endpoint)
    with pytest.raises(TypeError, match="messages cannot be of type"):
        app.websocket("/", send=Point | Options)(endpoint)
    assert app.routes == []
    assert message_types(None, None) is None
