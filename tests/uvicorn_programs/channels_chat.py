"""Django Channels: a room of a channel layer, a consumer that runs in threads, and a refusal."""

import json
from typing import Any

import django  # type: ignore[import-untyped]
from channels.generic.websocket import (  # type: ignore[import-untyped]
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)
from channels.routing import ProtocolTypeRouter, URLRouter  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-untyped]
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

settings.configure(
    ALLOWED_HOSTS=["*"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    INSTALLED_APPS=["channels"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of no use",
)
django.setup()


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a page")


urlpatterns = [path("", page)]


class Room(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        offered = self.scope["subprotocols"]
        await self.accept(offered[0] if offered else None)

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)
        await self.say(f"left with {code}")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.say(json.loads(text_data or "")["text"])

    async def say(self, text: str) -> None:
        await self.channel_layer.group_send(self.room, {"type": "room.said", "text": text})

    async def room_said(self, event: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps({"text": event["text"]}))


class Threaded(WebsocketConsumer):  # type: ignore[misc]
    def connect(self) -> None:
        self.accept()

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "bye":
            self.close(4001, "so long")
        else:
            self.send(text_data=text_data, bytes_data=bytes_data)


class Closed(WebsocketConsumer):  # type: ignore[misc]
    def connect(self) -> None:
        self.close()


app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(
            [
                path("room/<room>/", Room.as_asgi()),
                path("threaded/", Threaded.as_asgi()),
                path("closed/", Closed.as_asgi()),
            ]
        ),
    }
)
