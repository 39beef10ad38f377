"""TLS: contexts from options, sentences about what is wrong with them, renewal, and connections."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest

from fastws import FastWS, WebSocket
from fastws import tls as tls_module
from fastws.config import OPTIONS, Config
from fastws.options import ConfigError
from fastws.tls import TLS, make_context, serves_tls
from tests.connections import until
from tests.serving import Client, connect, frame, handshake, serving, status_of
from tests.support import ROOT, TIMEOUT, ServerProcess, run

CERTIFICATE = ROOT / "tests" / "localhost.pem"
"""A self-signed certificate for localhost and its key."""
OTHER = ROOT / "tests" / "other.pem"
"""Another one."""
ENCRYPTED = ROOT / "tests" / "encrypted.pem"
"""The same as OTHER, its key encrypted with PASSWORD."""
PASSWORD = "correct"


def config(**options: Any) -> Config:
    return Config("nothing:app", **options)


def refusal(**options: Any) -> str:
    """The sentence with which these options are refused."""
    with pytest.raises(ConfigError) as caught:
        TLS.of(config(**options))
    sentence = str(caught.value)
    assert "\n" not in sentence
    # What is told about is an option, so that it can be said where it was set.
    assert caught.value.options
    assert set(caught.value.options) <= {option.keyword for option in OPTIONS}
    return sentence


def part(path: Path, label: str, target: Path) -> Path:
    """Copy one block of a PEM file to ``target``."""
    begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"
    text = path.read_text()
    target.write_text(text[text.index(begin) : text.index(end) + len(end)] + "\n")
    return target


def trusting(path: Path = CERTIFICATE) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=path)


# From options to a context


def test_no_tls_unless_it_is_asked_for() -> None:
    assert TLS.of(config()) is None
    assert not serves_tls(config())
    assert serves_tls(config(ssl_certfile=CERTIFICATE))


def test_the_defaults_are_those_that_are_safe() -> None:
    context = make_context(config(ssl_certfile=CERTIFICATE))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE
    for option in (
        ssl.OP_CIPHER_SERVER_PREFERENCE,
        ssl.OP_NO_COMPRESSION,
        ssl.OP_NO_RENEGOTIATION,
    ):
        assert context.options & option
    for cipher in context.get_ciphers():
        assert cipher["aead"]
        assert "RSA" not in cipher["name"] or cipher["name"].startswith("ECDHE-")


def test_the_options_of_a_context() -> None:
    chosen = config(
        ssl_certfile=OTHER,
        ssl_min_version="1.3",
        ssl_ciphers="ECDHE+CHACHA20",
        ssl_cert_reqs="optional",
        ssl_ca_certs=CERTIFICATE,
    )
    context = make_context(chosen)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_OPTIONAL
    names = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
    assert names
    assert all(name.endswith("CHACHA20-POLY1305") for name in names)
    assert [authority["subject"] for authority in context.get_ca_certs()]


def test_a_key_in_a_file_of_its_own(tmp_path: Path) -> None:
    certificate = part(CERTIFICATE, "CERTIFICATE", tmp_path / "cert.pem")
    key = part(CERTIFICATE, "PRIVATE KEY", tmp_path / "key.pem")
    make_context(config(ssl_certfile=certificate, ssl_keyfile=key))


def test_a_key_with_a_password() -> None:
    make_context(config(ssl_certfile=ENCRYPTED, ssl_keyfile_password=PASSWORD))


def test_a_password_that_somebody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def type_it(prompt: str) -> str:
        asked.append(prompt)
        return PASSWORD

    monkeypatch.setattr("getpass.getpass", type_it)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    tls = TLS(config(ssl_certfile=ENCRYPTED))
    assert asked == [f"Password of the private key in {ENCRYPTED}: "]
    # It is kept for the day that the certificate is renewed.
    tls._stamps = []
    assert tls.renew()
    assert len(asked) == 1


# What is wrong with the options


@pytest.mark.parametrize("option", ["ssl_certfile", "ssl_keyfile", "ssl_ca_certs"])
@pytest.mark.parametrize(
    ("kind", "why"),
    [("missing", "cannot be read"), ("directory", "cannot be read"), ("DER", "expected a PEM")],
)
def test_a_file_that_is_no_pem_file(option: str, kind: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if kind == "directory":
        path.mkdir()
    elif kind == "DER":
        path.write_bytes(bytes(range(256)))
    options: dict[str, Any] = {"ssl_certfile": CERTIFICATE, option: path}
    if option == "ssl_ca_certs":
        options["ssl_cert_reqs"] = "required"
    sentence = refusal(**options)
    assert option.replace("_", "-") in sentence
    assert str(path) in sentence
    assert why in sentence


def test_a_certificate_that_only_looks_like_one(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    path.write_text(CERTIFICATE.read_text().replace("M", "N"))
    assert f"ssl-certfile is {path}, which OpenSSL does not accept" in refusal(ssl_certfile=path)
    sentence = refusal(ssl_certfile=CERTIFICATE, ssl_ca_certs=path, ssl_cert_reqs="required")
    assert f"ssl-ca-certs is {path}, which OpenSSL does not accept" in sentence


def test_a_certificate_without_its_key(tmp_path: Path) -> None:
    path = part(CERTIFICATE, "CERTIFICATE", tmp_path / "cert.pem")
    assert "expected ssl-keyfile as well" in refusal(ssl_certfile=path)


def test_the_key_of_another_certificate() -> None:
    sentence = refusal(ssl_certfile=CERTIFICATE, ssl_keyfile=OTHER)
    assert sentence.startswith(f"ssl-keyfile is {OTHER}, whose private key does not belong")
    assert str(CERTIFICATE) in sentence


def test_a_wrong_password() -> None:
    sentence = refusal(ssl_certfile=ENCRYPTED, ssl_keyfile_password="wrong")
    assert "cannot be decrypted" in sentence
    assert "ssl-keyfile-password" in sentence
    assert "wrong" not in sentence.replace("ssl", "")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_password_that_nobody_is_there_to_type(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: workers > 1, raising=False)
    sentence = refusal(ssl_certfile=ENCRYPTED, workers=workers)
    assert "is encrypted: expected its password in ssl-keyfile-password" in sentence


@pytest.mark.parametrize(
    "options",
    [
        {"ssl_keyfile": CERTIFICATE},
        {"ssl_keyfile_password": "secret"},
        {"ssl_ca_certs": CERTIFICATE},
        {"ssl_ciphers": "HIGH"},
        {"ssl_cert_reqs": "required"},
    ],
)
def test_options_that_mean_nothing_without_tls(options: dict[str, Any]) -> None:
    sentence = refusal(**options)
    assert sentence.startswith(next(iter(options)).replace("_", "-"))
    assert "ssl-certfile" in sentence
    assert "secret" not in sentence


def test_options_that_do_not_go_together() -> None:
    sentence = refusal(ssl_certfile=CERTIFICATE, ssl_cert_reqs="optional")
    assert "expected ssl-ca-certs" in sentence
    sentence = refusal(ssl_certfile=CERTIFICATE, ssl_ca_certs=CERTIFICATE)
    assert "expected ssl-cert-reqs" in sentence
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for options in ({"ssl_certfile": CERTIFICATE}, {"ssl_context_factory": lambda: context}):
        assert "expected one of them" in refusal(ssl_context=context, **options)


def test_ciphers_that_do_not_exist() -> None:
    assert "ssl-ciphers is NONSENSE" in refusal(ssl_certfile=CERTIFICATE, ssl_ciphers="NONSENSE")


def test_the_command_says_it_in_a_sentence() -> None:
    with pytest.raises(RuntimeError) as caught:
        ServerProcess(
            "tests.robustness.client:app", "--ssl-certfile", "/nowhere/cert.pem"
        ).__enter__()
    assert "ssl-certfile is /nowhere/cert.pem" in str(caught.value)
    assert "Traceback" not in str(caught.value)


# The application's own context


def own_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def changed_context(of: Config, default_factory: Any) -> ssl.SSLContext:
    assert of.ssl_certfile == str(CERTIFICATE)
    context: ssl.SSLContext = default_factory()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def no_context() -> None:
    return None


def failing_context() -> ssl.SSLContext:
    raise LookupError("no vault\nreally")


def test_a_context_factory_without_parameters() -> None:
    assert isinstance(make_context(config(ssl_context_factory=own_context)), ssl.SSLContext)
    named = make_context(config(ssl_context_factory="tests.test_tls:own_context"))
    assert isinstance(named, ssl.SSLContext)


def test_a_context_factory_that_changes_the_usual_one() -> None:
    context = make_context(config(ssl_certfile=CERTIFICATE, ssl_context_factory=changed_context))
    assert context.maximum_version == ssl.TLSVersion.TLSv1_2
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        (
            no_context,
            "ssl-context-factory is no_context: it returned NoneType, expected an ssl.SSL",
        ),
        (failing_context, "ssl-context-factory is failing_context: calling it failed: LookupError"),
        ("nowhere.at:all", "ssl-context-factory is nowhere.at:all: it cannot be imported"),
        ("tests.test_tls:nothing", "it cannot be imported"),
        ("tests.test_tls:PASSWORD", "expected a function"),
    ],
)
def test_a_context_factory_that_makes_none(factory: Any, sentence: str) -> None:
    assert sentence in refusal(ssl_context_factory=factory)


def test_a_context_factory_whose_usual_one_has_no_certificate() -> None:
    def factory(_: Config, default_factory: Any) -> Any:
        return default_factory()

    assert "ssl-certfile is none" in refusal(ssl_context_factory=factory)


# Renewal


def test_a_renewed_certificate_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(shutil.copy(CERTIFICATE, tmp_path / "cert.pem"))
    tls = TLS(config(ssl_certfile=path))
    first = tls.context
    monkeypatch.setattr(tls_module, "RENEWAL_INTERVAL", 0.0)
    assert tls.context is first, "nothing has changed"
    replaced = tmp_path / "new"
    shutil.copy(OTHER, replaced)
    replaced.rename(path)
    with caplog.at_level(logging.INFO, "fastws"):
        second = tls.context
    assert second is not first
    assert str(path) in caplog.text
    assert tls.context is second


def test_a_certificate_that_is_half_written_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(shutil.copy(CERTIFICATE, tmp_path / "cert.pem"))
    tls = TLS(config(ssl_certfile=path))
    first = tls.context
    for text in ("", OTHER.read_text()[:300]):
        path.write_text(text)
        assert not tls.renew()
        assert tls.context is first
        # Said once, not at each look.
        assert not tls.renew()
    path.unlink()
    assert not tls.renew()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 3
    shutil.copy(OTHER, path)
    assert tls.renew()
    assert tls.context is not first


def test_connections_that_come_after_a_renewal_get_the_new_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(CERTIFICATE, tmp_path / "cert.pem"))
    monkeypatch.setattr(tls_module, "RENEWAL_INTERVAL", 0.0)

    async def main() -> None:
        async with serving(make_app(), ssl_certfile=str(path)) as server:
            async with connect(server, ssl=trusting(), server_hostname="localhost") as before:
                shutil.copy(OTHER, path)
                options = {"ssl": trusting(OTHER), "server_hostname": "localhost"}
                async with connect(server, **options) as after:
                    for client in (before, after):
                        await opened(client)

    run(main())


# Connections


def make_app() -> FastWS:
    app = FastWS()

    @app.websocket("/")
    async def describe(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text(f"{ws.url} {ws.scope['scheme']} {ws.client is not None}")
        async for message in ws:
            await ws.send_text(message)

    @app.get("/page")
    async def page() -> str:
        return "a page"

    return app


async def opened(client: Client) -> str:
    """Open a WebSocket on ``client``; what its handler says about it."""
    await client.send(handshake())
    assert status_of(await client.head()) == 101
    return (await client.frame())[1].decode()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_websocket_over_tls(version: ssl.TLSVersion) -> None:
    async def main() -> None:
        async with serving(make_app(), ssl_certfile=CERTIFICATE) as server:
            context = trusting()
            context.minimum_version = context.maximum_version = version
            context.set_alpn_protocols(["h2", "http/1.1"])
            async with connect(server, ssl=context, server_hostname="localhost") as client:
                spoken = client.writer.get_extra_info("ssl_object")
                assert spoken.selected_alpn_protocol() == "http/1.1"
                assert await opened(client) == "wss://example.org/ wss True"
                payload = bytes(100_000)
                await client.send(frame(payload))
                assert await client.frame() == (1, payload)
                # The CLOSE reaches the peer, then the end of TLS and of TCP, and no RST.
                await client.send(frame(b"\x03\xe8", opcode=8))
                assert await client.frame() == (8, b"\x03\xe8")
                assert await client.rest() == b""

    run(main())


def test_pages_over_tls_on_one_connection() -> None:
    async def main() -> None:
        async with serving(make_app(), ssl_certfile=CERTIFICATE) as server:
            async with connect(server, ssl=trusting(), server_hostname="localhost") as client:
                request = b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n"
                for _ in range(3):
                    await client.send(request)
                    assert status_of(await client.head()) == 200
                    assert await client.exactly(6) == b"a page"
                await client.send(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                assert (await client.rest()).endswith(b"a page")

    run(main())


def test_an_old_version_is_not_spoken() -> None:
    async def main() -> None:
        options = {"ssl_certfile": CERTIFICATE, "ssl_min_version": "1.3"}
        async with serving(make_app(), **options) as server:
            context = trusting()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            # With an alert, or without: uvloop sends none.
            with pytest.raises(OSError):
                async with connect(server, ssl=context, server_hostname="localhost"):
                    pass
            assert server.hub is not None
            await server.hub.wait_until_empty()

    run(main())


@pytest.mark.parametrize("verify", ["optional", "required"])
@pytest.mark.parametrize("shown", ["none", "trusted", "foreign"])
def test_certificates_of_clients(verify: str, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        options = {
            "ssl_certfile": OTHER,
            "ssl_ca_certs": CERTIFICATE,
            "ssl_cert_reqs": verify,
        }
        context = trusting(OTHER)
        if shown != "none":
            context.load_cert_chain(CERTIFICATE if shown == "trusted" else OTHER)
        welcome = shown == "trusted" or (shown, verify) == ("none", "optional")
        async with serving(make_app(), **options) as server:
            try:
                # In TLS 1.3 the client is done before the server has looked at its certificate.
                async with connect(server, ssl=context, server_hostname="localhost") as client:
                    await opened(client)
            except (OSError, asyncio.IncompleteReadError):
                assert not welcome
            else:
                assert welcome
            assert server.hub is not None
            await asyncio.wait_for(server.hub.wait_until_empty(), TIMEOUT)

    with caplog.at_level(logging.INFO):
        run(main())
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_a_peer_that_does_not_end_tls_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws.http11.LINGER", 0.05)

    async def main() -> None:
        async with serving(make_app(), ssl_certfile=CERTIFICATE) as server:
            async with connect(server, ssl=trusting(), server_hostname="localhost") as client:
                client.stop_reading()
                await client.send(handshake(method="POST"))
                await until(lambda: len(server.hub or ()) == 0)
                client.transport.abort()

    run(main())


@pytest.mark.parametrize("when", ["in the handshake", "before a request", "open"])
def test_a_stop_reaches_connections_over_tls(when: str) -> None:
    async def main() -> None:
        async with serving(make_app(), ssl_certfile=CERTIFICATE) as server:
            tls: dict[str, Any] = {"ssl": trusting(), "server_hostname": "localhost"}
            async with connect(server, **({} if when == "in the handshake" else tls)) as client:
                if when == "open":
                    await opened(client)
                server.stop()
                if when == "open":
                    opcode, payload = await client.frame()
                    assert (opcode, payload[:2]) == (8, (1012).to_bytes(2, "big"))
                    await client.send(frame(payload[:2], opcode=8))
                assert b"HTTP" not in await client.rest()

    run(main())
