"""TLS: from the options to the ``ssl.SSLContext``, and to the next one when a file is renewed."""

from __future__ import annotations

import getpass
import inspect
import pkgutil
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from fastws.config import Config
from fastws.logs import log
from fastws.options import ConfigError

__all__ = ["TLS", "make_context", "serves_tls"]

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption, nothing else. Every client of the last
ten years has one of these. TLS 1.3 has no others."""

RENEWAL_INTERVAL = 60.0
"""Seconds between two looks at whether the files have changed."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
_NEEDING_TLS = ("ssl_keyfile", "ssl_keyfile_password", "ssl_ca_certs", "ssl_ciphers")
_FACTORY = ("ssl_context_factory",)


def serves_tls(config: Config) -> bool:
    """Whether connections to this server are TLS."""
    return (
        config.ssl_context is not None
        or config.ssl_certfile is not None
        or config.ssl_context_factory is not None
    )


class TLS:
    """The context of new connections, made anew when its files are.

    A certificate that is renewed on disk is served within :data:`RENEWAL_INTERVAL`, without a
    signal and without a restart; connections that are open keep the one they began with. Files
    that cannot be used, such as a certificate whose key is still to be written, change nothing and
    are logged. What a program made itself (``ssl_context``, ``ssl-context-factory``) is its own to
    renew.

    Parameters:
        config: the options.

    Raises:
        ConfigError: as :func:`make_context`.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._password = Password(config)
        self._stamps = self._look()
        self._looked_at = time.monotonic()
        self._context = make_context(config, self._password)

    @classmethod
    def of(cls, config: Config) -> TLS | None:
        """The TLS that the options ask for, ``None`` if they ask for none.

        Raises:
            ConfigError: as :func:`make_context`.
        """
        if serves_tls(config):
            return cls(config)
        needless = [name for name in _NEEDING_TLS if getattr(config, name) is not None]
        needless += ["ssl_cert_reqs"] if config.ssl_cert_reqs != "none" else []
        if needless:
            raise ConfigError(
                f"{needless[0].replace('_', '-')} is set, but TLS is not on: "
                "expected ssl-certfile as well",
                needless[:1],
            )
        return None

    @property
    def context(self) -> ssl.SSLContext:
        """What a new connection is served with."""
        now = time.monotonic()
        if now - self._looked_at >= RENEWAL_INTERVAL:
            self._looked_at = now
            self.renew()
        return self._context

    def renew(self) -> bool:
        """Load the files again if they have changed; whether there is a new context."""
        stamps = self._look()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        try:
            self._context = make_context(self._config, self._password)
        except ConfigError as error:
            log.error("the certificate stays as it is: %s", error)
            return False
        log.info("the certificate was loaded again from %s", self._config.ssl_certfile)
        return True

    def _look(self) -> list[tuple[int, int, int] | None]:
        """What tells that a file was written or replaced; nothing if there is none to watch."""
        config = self._config
        if config.ssl_context is not None or config.ssl_context_factory is not None:
            return []
        stamps: list[tuple[int, int, int] | None] = []
        for path in (config.ssl_certfile, config.ssl_keyfile, config.ssl_ca_certs):
            if path is not None:
                try:
                    found = Path(path).stat()
                    stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
                except OSError:
                    stamps.append(None)
        return stamps


def make_context(config: Config, password: Password | None = None) -> ssl.SSLContext:
    """The context that the options describe.

    ``ssl-context-factory`` names a function that makes it instead: ``f()``, or
    ``f(config, default_factory)`` where ``default_factory()`` is the context of the other options,
    to be changed and returned.

    Parameters:
        config: the options.
        password: where the private key's comes from, if it is encrypted.

    Raises:
        ConfigError: a file cannot be read or used, the key is another certificate's, or the options
            do not go together; the message names option and file.
    """
    if config.ssl_context is not None:
        for name in ("ssl_certfile", "ssl_context_factory"):
            if getattr(config, name) is not None:
                raise ConfigError(
                    f"{name.replace('_', '-')} is set and an ssl_context was passed: "
                    "expected one of them",
                    (name,),
                )
        return config.ssl_context
    password = password or Password(config)
    if config.ssl_context_factory is not None:
        return _call_factory(config, password)
    return _context_of_files(config, password)


def _call_factory(config: Config, password: Password) -> ssl.SSLContext:
    factory: Any = config.ssl_context_factory
    option = f"ssl-context-factory is {getattr(factory, '__qualname__', factory)}"
    if isinstance(factory, str):
        try:
            factory = pkgutil.resolve_name(factory)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"{option}: it cannot be imported: {error}", _FACTORY) from error
    if not callable(factory):
        raise ConfigError(f"{option}: expected a function that returns an ssl.SSLContext", _FACTORY)
    arguments: tuple[Any, ...] = (config, lambda: _context_of_files(config, password))
    try:
        inspect.signature(factory).bind(*arguments)
    except (TypeError, ValueError):
        arguments = ()
    try:
        made = factory(*arguments)
    except ConfigError:
        raise
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise ConfigError(
            f"{option}: calling it failed: {type(error).__name__}: {said}", _FACTORY
        ) from error
    if not isinstance(made, ssl.SSLContext):
        raise ConfigError(
            f"{option}: it returned {type(made).__name__}, expected an ssl.SSLContext", _FACTORY
        )
    return made


def _context_of_files(config: Config, password: Password) -> ssl.SSLContext:
    if config.ssl_certfile is None:
        raise ConfigError(
            "ssl-certfile is none: expected the file of a certificate (PEM)", ("ssl_certfile",)
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.ssl_min_version]
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION
    # A peer could make the server's side of it work for nothing, and TLS 1.3 has none any more.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.set_ciphers(config.ssl_ciphers or CIPHERS)
    except ssl.SSLError:
        raise ConfigError(
            f"ssl-ciphers is {config.ssl_ciphers}: OpenSSL knows no cipher by it, expected a list "
            "such as ECDHE+AESGCM:ECDHE+CHACHA20",
            ("ssl_ciphers",),
        ) from None
    _load_certificate(context, config, password)
    _require_certificates(context, config)
    return context


def _load_certificate(context: ssl.SSLContext, config: Config, password: Password) -> None:
    certfile, keyfile = config.ssl_certfile, config.ssl_keyfile
    assert certfile is not None
    certificate = _read_pem("ssl_certfile", certfile, "CERTIFICATE")
    if keyfile is not None:
        _read_pem("ssl_keyfile", keyfile, "PRIVATE KEY")
    elif "PRIVATE KEY-----" not in certificate:
        raise ConfigError(
            f"ssl-certfile is {certfile}, which holds no private key: expected ssl-keyfile as well",
            ("ssl_certfile",),
        )
    key = _key_sentence(config)
    password.was_asked = False
    try:
        context.load_cert_chain(certfile, keyfile, password=password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{key}, whose private key does not belong to the first certificate in {certfile}: "
                "expected the key that this certificate was issued for",
                (_key_option(config),),
            ) from None
        if password.was_asked:
            password.forget()
            raise ConfigError(
                f"{key}, whose private key cannot be decrypted with the password in "
                "ssl-keyfile-password",
                (_key_option(config),),
            ) from None
        raise ConfigError(
            f"{key}, which OpenSSL does not accept: {_reason(error)}", (_key_option(config),)
        ) from None


def _require_certificates(context: ssl.SSLContext, config: Config) -> None:
    """Ask clients for certificates, if the options say so."""
    verify = config.ssl_cert_reqs
    if config.ssl_ca_certs is None:
        if verify != "none":
            raise ConfigError(
                f"ssl-cert-reqs is {verify}: expected ssl-ca-certs as well, the authorities that "
                "clients' certificates are checked against",
                ("ssl_cert_reqs",),
            )
        return
    if verify == "none":
        # Nobody names authorities in order not to ask them.
        raise ConfigError(
            f"ssl-ca-certs is {config.ssl_ca_certs}, but ssl-cert-reqs is none, so that no client "
            "shows a certificate: expected ssl-cert-reqs required or optional",
            ("ssl_ca_certs", "ssl_cert_reqs"),
        )
    _read_pem("ssl_ca_certs", config.ssl_ca_certs, "CERTIFICATE")
    try:
        context.load_verify_locations(config.ssl_ca_certs)
    except ssl.SSLError as error:
        raise ConfigError(
            f"ssl-ca-certs is {config.ssl_ca_certs}, which OpenSSL does not accept: "
            f"{_reason(error)}",
            ("ssl_ca_certs",),
        ) from None
    context.verify_mode = _VERIFY[verify]


def _read_pem(option: str, path: str, label: str) -> str:
    """The text of a PEM file (RFC 7468) that must hold a block with ``label``."""
    subject = f"{option.replace('_', '-')} is {path}"
    try:
        text = Path(path).read_bytes().decode("latin-1")
    except OSError as error:
        raise ConfigError(f"{subject}, which cannot be read: {error.strerror}", (option,)) from None
    if f"{label}-----" not in text:
        raise ConfigError(
            f"{subject}, which has no -----BEGIN {label}----- in it: expected a PEM file",
            (option,),
        )
    return text


def _reason(error: ssl.SSLError) -> str:
    # A reason of OpenSSL's, such as EE_KEY_TOO_SMALL.
    return (error.reason or str(error)).replace("_", " ").lower()


class Password:
    """The private key's password: the option's, or what the user types, once.

    OpenSSL asks for it only if the key is encrypted; without this it would ask the terminal itself,
    and wait for ever where nobody sits at one.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._typed: str | None = None
        self.was_asked = False

    def __call__(self) -> str:
        """The password.

        Raises:
            ConfigError: there is none, and nobody to ask.
        """
        self.was_asked = True
        config = self._config
        if config.ssl_keyfile_password is not None:
            return config.ssl_keyfile_password
        # Several processes would ask at the same time.
        if config.workers > 1 or sys.stdin is None or not sys.stdin.isatty():
            raise ConfigError(
                f"{_key_sentence(config)}, whose private key is encrypted: expected its password "
                "in ssl-keyfile-password",
                (_key_option(config),),
            )
        if self._typed is None:
            path = config.ssl_keyfile or config.ssl_certfile
            self._typed = getpass.getpass(f"Password of the private key in {path}: ")
        return self._typed

    def forget(self) -> None:
        """Ask again next time: what was typed is not the password."""
        self._typed = None


def _key_option(config: Config) -> str:
    """The option whose file has the private key."""
    return "ssl_certfile" if config.ssl_keyfile is None else "ssl_keyfile"


def _key_sentence(config: Config) -> str:
    """The beginning of a sentence about the private key."""
    option = _key_option(config)
    return f"{option.replace('_', '-')} is {getattr(config, option)}"
