"""What the other tests are built on."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.support import TIMEOUT, run, within


@pytest.mark.parametrize("steps", range(4))
def test_who_waits_within_a_time_can_always_be_cancelled(steps: int) -> None:
    async def main() -> None:
        result = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(within(result))
        await asyncio.sleep(0)
        result.set_result(None)
        for _ in range(steps):
            await asyncio.sleep(0)
        if waiting.cancel():
            await asyncio.wait({waiting}, timeout=TIMEOUT)
            assert waiting.cancelled()

    run(main())


def test_what_takes_too_long_is_cancelled_before_that_is_told() -> None:
    cleaned_up = False

    async def too_long() -> None:
        nonlocal cleaned_up
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            cleaned_up = True

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await within(too_long(), 0)
        assert cleaned_up

    run(main())


def test_a_failure_nobody_asks_for_any_more_is_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        result = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(within(result))
        await asyncio.sleep(0)
        result.set_exception(ValueError("wrong"))
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting

    run(main())
    assert not caplog.records
