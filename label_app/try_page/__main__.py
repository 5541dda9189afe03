"""Serve the page to try the five models by hand, for this machine alone: ``python -m label_app.try_page``."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from label_app.limits import UPLOAD_LIMIT, read_body, refusal_of_limits, too_large, upload_limit
from label_app.serve import LOCAL
from label_app.served_bundle import ServedBundle

from .router import TryPage

logger = logging.getLogger(__name__)
BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


class Limits:
    """Refuse requests that are too large, or that come from pages of other sites."""

    def __init__(self, application: Any, *, most: int) -> None:
        self.application, self.most = application, most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refused = refusal_of_limits(scope, most=self.most) if scope["type"] == "http" else None
        if refused is None and scope["type"] == "http":
            body, receive = await read_body(receive, self.most)
            refused = too_large(self.most) if body is None else None
        await (refused or self.application)(scope, receive, send)


def application(bundles: Path) -> FastAPI:
    """The page at ``/try/``, for the bundles in the folder ``bundles``."""
    served = [ServedBundle(path.parents[1]) for path in sorted(bundles.glob("*/configs/inference.json"))]
    if not served:
        raise SystemExit(f"--bundles: {str(bundles)!r} holds no bundle; pass a folder of bundles, unpacked")
    app = FastAPI(openapi_url=None)
    app.include_router(TryPage(lambda: served).router, prefix="/try")
    app.add_api_route("/", lambda: RedirectResponse("/try/"))
    app.add_middleware(Limits, most=upload_limit())
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL), www_redirect=False)
    return app


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m label_app.try_page", description=__doc__)
    parser.add_argument("--bundles", type=Path, default=BUNDLES, help="folder of bundles; default: this repository's")
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument("--max_upload_mb", type=int, default=64, help="larger requests are refused")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse(sys.argv[1:])
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    if importlib.util.find_spec("python_multipart") is None:
        raise SystemExit("python-multipart is not installed, which the page needs; pip install -e '.[serve]'")
    os.environ[UPLOAD_LIMIT] = str(arguments.max_upload_mb)
    address = f"http://127.0.0.1:{arguments.port}/try/"
    logger.info("%s (Ctrl-C ends it)", address)
    if arguments.open:
        threading.Timer(1.0, webbrowser.open, [address]).start()
    with tempfile.TemporaryDirectory(prefix="try-page-") as folder:
        tempfile.tempdir = folder  # uploads, and nothing else, are read from there
        uvicorn.run(application(arguments.bundles), host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
