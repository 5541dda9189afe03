"""Limits of every request, to MONAI Label and to the page to try by hand: where it comes from, and how large it is."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse

UPLOAD_LIMIT = "LABEL_APP_MAX_UPLOAD_MB"
Receive = Callable[[], Awaitable[Any]]


def refusal_of_limits(scope: Any, *, most: int, origins: Collection[str] = ()) -> JSONResponse | None:
    """The answer to a request that says to be too large, or that comes from a page of another site.

    Args:
        most: bytes of its body.
        origins: of other sites whose pages may ask.
    """
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > most:
        return too_large(most)
    if scope["method"] not in ("GET", "HEAD", "OPTIONS") and not _is_own_page(headers, origins):
        return detail(403, "origin: pages of other sites must not change anything; see --origins")
    return None


def _is_own_page(headers: dict[bytes, bytes], origins: Collection[str]) -> bool:
    origin, host = (headers.get(name, b"").decode("latin-1") for name in (b"origin", b"host"))
    return not origin or origin in origins or urlsplit(origin).netloc == host


async def read_body(receive: Receive, most: int) -> tuple[bytes | None, Receive]:
    """The body, whose length need not be announced, None if it is larger than ``most``; and what gives it again."""
    messages: list[Any] = []
    size, more = 0, True
    while more and size <= most:
        message = await receive()
        messages.append(message)
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)

    async def again() -> Any:
        return messages.pop(0) if messages else await receive()

    whole = b"".join(message.get("body", b"") for message in messages)
    return (whole if size <= most else None), again


def too_large(most: int) -> JSONResponse:
    return detail(413, f"the request is larger than {most // 2**20} MB, the server's limit (--max_upload_mb)")


def detail(status: int, message: str) -> JSONResponse:
    return JSONResponse({"detail": message}, status_code=status)


def upload_limit() -> int:
    """Bytes of a request's body at most."""
    return int(os.environ.get(UPLOAD_LIMIT, "64")) * 2**20
