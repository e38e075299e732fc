"""TLS towards sinks: the usual authorities or the operator's own, and a certificate of ours where one is asked for."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx

from indexer.feeds.config import wrong_key

if TYPE_CHECKING:
    from indexer.feeds.config import TlsFeed


def tls_context(feed: TlsFeed) -> ssl.SSLContext:
    """Return what a feed says of TLS; raise ``ConfigurationError`` that names the file that cannot be used.

    What the environment says of certificates is not heeded.
    """
    try:
        context = (
            httpx.create_ssl_context(trust_env=False)
            if feed.ca_file is None
            else ssl.create_default_context(cafile=feed.ca_file)
        )
    except OSError as error:
        raise wrong_key(feed.name, "ca_file", f"{feed.ca_file} cannot be used: {error}") from None
    if feed.certificate_file is not None:
        try:
            context.load_cert_chain(feed.certificate_file, feed.key_file, password=lambda: "")
        except OSError as error:
            raise wrong_key(
                feed.name, "certificate_file", f"{feed.certificate_file} cannot be used: {error}"
            ) from None
    return context


def tls_failure(error: BaseException) -> str | None:
    """Say what of TLS failed, and whose certificate it is about; None: something else did."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS with the server fails: {error.reason or error}"
    return None
