"""The vendor's request signature, SDK-HMAC-SHA256 by access and secret key. Pure.

Source: support.huaweicloud.com/devg-apisign. The vendor refuses what is 15 minutes off.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_ALGORITHM = "SDK-HMAC-SHA256"


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    access_key: str,
    secret_key: str,
    at: datetime,
) -> dict[str, str]:
    """`headers` with Host, X-Sdk-Date and Authorization added. `at` is an aware instant.

    All headers are signed, and the URL's query in the order of its names.
    """
    parts = urlsplit(url)
    default_port = {"https": 443, "http": 80}[parts.scheme]
    host = parts.hostname or ""
    if parts.port not in {None, default_port}:
        host = f"{host}:{parts.port}"
    stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {**headers, "Host": host, "X-Sdk-Date": stamp}
    lines = sorted((name.lower(), value.strip()) for name, value in signed.items())
    names = ";".join(name for name, _ in lines)
    path = "/".join(quote(unquote(piece), safe="~") for piece in parts.path.split("/"))
    query = sorted(parse_qsl(parts.query, keep_blank_values=True))
    request = "\n".join(
        (
            method,
            path if path.endswith("/") else path + "/",
            "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in query),
            "".join(f"{name}:{value}\n" for name, value in lines),
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    text = "\n".join((_ALGORITHM, stamp, hashlib.sha256(request.encode()).hexdigest()))
    signature = hmac.new(secret_key.encode(), text.encode(), hashlib.sha256).hexdigest()
    signed["Authorization"] = (
        f"{_ALGORITHM} Access={access_key}, SignedHeaders={names}, Signature={signature}"
    )
    return signed
