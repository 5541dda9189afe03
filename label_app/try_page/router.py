"""The page's routes: itself and its files, the models, the examples, and the answer to a question."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from label_app.limits import detail
from label_app.pictures import reason_of
from label_app.served_bundle import ServedBundle

from .answers import answer_to
from .examples import examples
from .uploads import Question, read_question

logger = logging.getLogger(__name__)
PAGE = Path(__file__).parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MOST_FILES, MOST_FIELDS = 10, 10
ORDER = ("akessfa", "clip_tnseg", "hfcn", "sgf", "d2rnet")


class TryPage:
    """The page, for the ``bundles`` that are there when it is asked: one question is answered after another."""

    def __init__(self, bundles: Callable[[], Iterable[ServedBundle]]) -> None:
        self.bundles = bundles
        self.router = APIRouter(include_in_schema=False)
        get = self.router.add_api_route
        get("/", self.page, response_model=None)
        get("/models", self.models, response_model=None)
        get("/examples", self.examples, response_model=None)
        get("/examples/{id}/{name}", self.example_file, response_model=None)
        get("/{name}", self.file, response_model=None)
        get("/predict", self.predict, methods=["POST"], response_model=None)

    async def page(self) -> Response:
        return await self.file("index.html")

    async def file(self, name: str) -> Response:
        """A file of the page's own folder, by its name alone."""
        path = next((path for path in PAGE.iterdir() if path.name == name), None)
        if path is None:
            return detail(404, "try: no such file")
        return FileResponse(path, media_type=TYPES[path.suffix], headers=HEADERS)

    async def models(self) -> Response:
        """The trained models, and what each reads."""
        named = self._by_name()
        order = sorted(named, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
        return JSONResponse([_told(named[name]) for name in order], headers=HEADERS)

    async def examples(self) -> Response:
        served = self._by_name()
        offered = [example.told() for example in examples().values() if example.model in served]
        return JSONResponse(offered, headers=HEADERS)

    async def example_file(self, id: str, name: str) -> Response:
        content = examples()[id].files.get(name) if id in examples() else None
        if content is None:
            return detail(404, "try: no such example")
        kind = "image/png" if name.endswith(".png") else "application/dicom"
        return Response(content, media_type=kind, headers=HEADERS)

    async def predict(self, request: Request) -> Response:
        """The answer to a question; nothing of it is kept. The server waits, as it does for each of its answers."""
        async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS) as form:
            bundle = self._by_name().get(str(form.get("model")))
            if bundle is None:
                return detail(400, "model: none was chosen, or it is not trained yet")
            with tempfile.TemporaryDirectory(prefix="try-") as folder:
                try:
                    question = await read_question(form, bundle, Path(folder))
                except ValueError as error:
                    return detail(400, str(error))
                return _answer(question, bundle, Path(folder))

    def _by_name(self) -> dict[str, ServedBundle]:
        return {bundle.name: bundle for bundle in self.bundles() if bundle.weights.is_file()}


def _told(bundle: ServedBundle) -> dict[str, Any]:
    reads = {"text": bundle.text, "mask": "mask" in bundle.config, "views": int(bundle.config.get("views", 1))}
    return {"name": bundle.name, "kind": bundle.kind, **reads}


def _answer(question: Question, bundle: ServedBundle, folder: Path) -> Response:
    try:
        return JSONResponse(answer_to(question, bundle, folder), headers=HEADERS)
    except Exception as error:  # whatever an image does to the libraries, the page says so
        reason = reason_of(error)
        if reason is None:
            logger.exception("try: %s could not answer", bundle.name)
            return detail(500, f"internal error ({type(error).__name__})")
        return detail(400, question.in_the_persons_words(str(reason).splitlines()[0]))
