"""MONAI Label's web application with limits, clear answers to bad requests, and DICOM masks of plain ultrasound."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import jwt
import monailabel.datastore.dicom
import monailabel.endpoints.activelearning
import monailabel.endpoints.datastore
import monailabel.endpoints.infer
import monailabel.endpoints.proxy
import monailabel.endpoints.user.auth
from fastapi import HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import JSONResponse, Response
from monailabel.app import app
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)
from monailabel.interfaces.utils.app import app_instance
from requests.exceptions import HTTPError

from common.datasets.files import WITH_DICOM, image_files
from common.dicom_results import DicomResults
from common.findings import Finding
from label_app.names import is_name

logger = logging.getLogger(__name__)
NAMES = ("image", "label", "tag", "id")
TASKS = re.compile(r"/(train|scoring|infer|batch/infer|activelearning)/([^/]*)/?")
SETTINGS = {  # what a request for a task may say; MONAI Label would put a request's bundle_path on Python's path
    "max_epochs", "val_split", "device", "pretrained", "multi_gpu", "images", "save_label", "label_tag", "max_workers",
    "max_batch_size", "strategy", "report", "phrase", "model", "client_id",
}  # fmt: skip
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ".nii", ".nii.gz")
MASKS = (".png", ".nii", ".nii.gz", ".nrrd")
UPLOAD_LIMIT = "LABEL_APP_MAX_UPLOAD_MB"
UNORIENTED = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)  # what OHIF takes for the orientation of an image that has none


class Guard:
    """Refuse requests that are too large (413) or whose names lead out of the studies (400), before they are read."""

    def __init__(self, application: Any, *, most: int) -> None:
        self.application, self.most = application, most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        refused = refusal(scope, most=self.most)
        if refused is None:
            refused, receive = await self._read(scope, receive)
        answer = self.application if refused is None else refused
        await answer(scope, receive, send)

    async def _read(self, scope: Any, receive: Any) -> tuple[JSONResponse | None, Any]:
        """Read the body, whose length need not be announced, up to the limit; look at a task's settings."""
        messages: list[Any] = []
        size, more = 0, True
        while more and size <= self.most:
            message = await receive()
            messages.append(message)
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)

        async def again() -> Any:
            return messages.pop(0) if messages else await receive()

        if size > self.most:
            return too_large(self.most), again
        body = b"".join(message.get("body", b"") for message in messages)
        return (bad_settings(body) if _is_task(scope) else None), again


def refusal(scope: Any, *, most: int) -> JSONResponse | None:
    """The answer to a request that is not let in."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if length.isdigit() and int(length) > most:
        return too_large(most)
    for name, value in parse_qsl(scope["query_string"].decode("latin-1")):
        if name in NAMES and not is_name(value):
            return detail(400, f"{name}: {value!r} is no name of an image; a path is not accepted")
    task = TASKS.fullmatch(scope["path"])
    if task is not None and task[2] and task[1] != "activelearning" and task[2] not in served(task[1]):
        return detail(404, f"{task[1]}: no {task[2]!r}; GET /info/ lists what is served")
    return None


def served(task: str) -> Collection[str]:
    """Names that a task has in the app."""
    instance = app_instance()
    return {"train": instance._trainers, "scoring": instance._scoring_methods}.get(task, instance._infers)


def _is_task(scope: Any) -> bool:
    """Whether the body is JSON with a task's settings."""
    return TASKS.fullmatch(scope["path"]) is not None and b"multipart" not in dict(scope["headers"]).get(
        b"content-type", b""
    )


def bad_settings(body: bytes) -> JSONResponse | None:
    """The answer to settings that are no JSON object, or that a request must not change."""
    try:
        settings = json.loads(body or b"{}")
    except ValueError as error:
        return detail(400, f"the body is no JSON ({error})")
    if not isinstance(settings, dict):
        return detail(400, f"the body is no JSON object: {str(settings)[:40]}")
    unknown = [name for name in settings if name not in SETTINGS and not isinstance(settings[name], dict)]
    unknown += [n for own in settings.values() if isinstance(own, dict) for n in own if n not in SETTINGS]
    return detail(400, f"{unknown[0]}: no setting that a request can make; {sorted(SETTINGS)} are") if unknown else None


def too_large(most: int) -> JSONResponse:
    return detail(413, f"the request is larger than {most // 2**20} MB, the server's limit (--max_upload_mb)")


def detail(status: int, message: str) -> JSONResponse:
    return JSONResponse({"detail": message}, status_code=status)


@app.exception_handler(MONAILabelException)
def refused(_: Request, error: MONAILabelException) -> JSONResponse:
    """404 for what is not there, 400 for other bad input."""
    missing = isinstance(error, (ImageNotFoundException, LabelNotFoundException))
    return detail(404 if missing else 400, error.msg)


@app.exception_handler(HTTPException)
async def without_image(request: Request, error: HTTPException) -> Response:
    """MONAI Label answers 500 to an inference without an image, which is the request's fault."""
    if error.status_code == 500 and str(error.detail).startswith("Neither Image"):
        return detail(400, "image: none given; pass ?image=ID or a file")
    return await http_exception_handler(request, error)


@app.exception_handler(Exception)
def broken(_: Request, error: Exception) -> JSONResponse:
    """The server's own fault; its log has the details."""
    return detail(500, f"internal error ({type(error).__name__})")


@app.exception_handler(json.JSONDecodeError)
def no_json(_: Request, error: json.JSONDecodeError) -> JSONResponse:
    return detail(400, f"params: no JSON ({error}); pass for example params={{}}")


@app.exception_handler(HTTPError)
def store_refused(_: Request, error: HTTPError) -> JSONResponse:
    """The DICOMweb store behind the server has no such series, or cannot answer."""
    status = error.response.status_code if error.response is not None else 502
    return detail(404 if status in (400, 404) else 502, f"the DICOM store answered with status {status}")


def dicom_segmentation(series_dir: str, label: str, label_info: Any, **_: Any) -> str:
    """The mask in the NIfTI or NRRD file ``label`` as a DICOM Segmentation of the image in ``series_dir``.

    MONAI Label's own writers fail for images without a place in the patient, as ultrasound is.
    """
    import SimpleITK

    mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(label))
    source = image_files(series_dir, WITH_DICOM)[0]
    network = str((label_info or [{}])[0].get("model_name") or "MONAI Label")
    results = DicomResults(folder=tempfile.mkdtemp(), network=network, orientation=UNORIENTED)
    written = results.write_findings(str(source), [Finding({}, mask=mask.reshape(mask.shape[-2:]) > 0)])
    return str(results.folder / written["dicom_seg"]) if "dicom_seg" in written else ""


def decode_signed(token: str, key: str, options: dict[str, Any]) -> dict[str, Any]:
    """The claims of a token, which PyJWT 2 decodes only where the accepted algorithm is named."""
    return jwt.decode(token, key, options=options, algorithms=["RS256"])  # type: ignore[arg-type]


def check_file(file: Any, suffixes: tuple[str, ...]) -> None:
    """Refuse an uploaded file whose name is of no known kind: it would be kept, and served, as what it is."""
    name = str(getattr(file, "filename", "") or "")
    if file is not None and (not name.lower().endswith(suffixes) or "\0" in name or len(name) > 200):
        raise MONAILabelException(
            MONAILabelError.INVALID_INPUT, f"file: {name[:60]!r} is none of {', '.join(suffixes)}; rename or convert it"
        )


def infer_and_clean(background: Any, model: str, image: str, session: str, params: str, file: Any, *more: Any) -> Any:
    """MONAI Label's inference; what was uploaded is removed after an error, too."""
    check_file(file, PICTURES)
    if params and not isinstance(json.loads(params), dict):
        raise MONAILabelException(MONAILabelError.INVALID_INPUT, f"params: {params[:40]!r} is no JSON object")
    try:
        return _infer(background, model, image, session, params, file, *more)
    except BaseException:
        for task in background.tasks:
            task.func(*task.args, **task.kwargs)
        raise


def add_picture(background: Any, image: Any, params: str, file: Any, user: Any) -> Any:
    check_file(file, PICTURES)
    return _add_image(background, image, params, file, user)


def save_mask(background: Any, image: str, params: str, tag: str, label: Any, user: Any) -> Any:
    check_file(label, MASKS)
    return _save_label(background, image, params, tag, label, user)


def without_path(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, whose answer does not tell where the server keeps a file."""

    def told(*arguments: Any, **options: Any) -> Any:
        answer = function(*arguments, **options)
        return {key: value for key, value in answer.items() if key != "path"} if isinstance(answer, dict) else answer

    return told


_infer = monailabel.endpoints.infer.run_inference
_add_image = monailabel.endpoints.datastore.add_image
_save_label = monailabel.endpoints.datastore.save_label
monailabel.endpoints.infer.run_inference = infer_and_clean
monailabel.endpoints.datastore.add_image = add_picture
monailabel.endpoints.datastore.save_label = save_mask
monailabel.endpoints.datastore.get_image_info = without_path(monailabel.endpoints.datastore.get_image_info)
monailabel.endpoints.activelearning.sample = without_path(monailabel.endpoints.activelearning.sample)
_proxy = monailabel.endpoints.proxy.proxy_dicom


async def proxy_with_query(request: Request, op: str, path: str) -> Any:
    """MONAI Label's proxy drops what is searched for, so that every patient is listed."""
    return await _proxy(request, op, f"{path}?{request.url.query}" if request.url.query else path)


monailabel.endpoints.user.auth.jwt = SimpleNamespace(decode=decode_signed)
monailabel.endpoints.proxy.proxy_dicom = proxy_with_query
monailabel.endpoints.infer.nifti_to_dicom_seg = dicom_segmentation
monailabel.datastore.dicom.nifti_to_dicom_seg = dicom_segmentation
for name in ("monailabel.endpoints.infer", "monailabel.interfaces.utils.app", "ignite"):  # they log reports, much
    logging.getLogger(name).setLevel(logging.WARNING)
app.add_middleware(Guard, most=int(os.environ.get(UPLOAD_LIMIT, "64")) * 2**20)
