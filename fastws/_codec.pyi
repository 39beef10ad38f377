"""The framing of RFC 6455 for both roles, without sockets and without a clock."""

from collections.abc import Buffer
