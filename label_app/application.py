"""MONAI Label's web application with limits, clear answers to bad requests, and DICOM masks of plain ultrasound."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jwt
import monailabel.datastore.dicom
import monailabel.endpoints.activelearning
import monailabel.endpoints.datastore
import monailabel.endpoints.infer
import monailabel.endpoints.proxy
import monailabel.endpoints.user.auth
from fastapi import Depends, HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from monailabel.app import app
from monailabel.config import RBAC_USER
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask
from requests.exceptions import HTTPError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from common.images.files import WITH_DICOM, image_files
from common.results.dicom import DicomResults
from common.results.findings import Finding
from label_app.guard import LOOPBACK, Guard
from label_app.limits import detail, upload_limit
from label_app.names import is_name
from label_app.pictures import PICTURES
from label_app.request_settings import MASKS, fault_of, fault_of_info, read_json
from label_app.try_page.router import TryPage

logger = logging.getLogger(__name__)
HOSTS, ORIGINS = "LABEL_APP_HOSTS", "LABEL_APP_ORIGINS"
UNORIENTED = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)  # what OHIF takes for the orientation of an image that has none


@app.exception_handler(MONAILabelException)
def refused(_: Request, error: MONAILabelException) -> JSONResponse:
    """404 for what is not there, 400 for other bad input."""
    missing = isinstance(error, (ImageNotFoundException, LabelNotFoundException))
    return detail(404 if missing else 400, error.msg)


@app.exception_handler(HTTPException)
async def without_image(request: Request, error: HTTPException) -> Response:
    """400 where MONAI Label answers 500: an inference without an image, DICOM without an archive."""
    if error.status_code == 500 and str(error.detail).startswith("Neither Image"):
        return detail(400, "image: none given; pass ?image=ID or a file")
    if error.status_code == 500 and str(error.detail).startswith("DICOM SEG format"):
        return detail(400, "output: dicom_seg is for studies in a DICOM archive; pass output=image")
    return await http_exception_handler(request, error)


@app.exception_handler(Exception)
def broken(_: Request, error: Exception) -> JSONResponse:
    """The server's own fault; its log has the details."""
    return detail(500, f"internal error ({type(error).__name__})")


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
    with tempfile.TemporaryDirectory() as folder:
        results = DicomResults(folder=folder, network=network, orientation=UNORIENTED)
        written = results.write_findings(str(source), [Finding({}, mask=mask.reshape(mask.shape[-2:]) > 0)])
        if "dicom_seg" not in written:
            return ""
        with tempfile.NamedTemporaryFile(suffix=".dcm", delete=False) as kept:  # MONAI Label removes it once it is sent
            kept.write((results.folder / written["dicom_seg"]).read_bytes())
    return kept.name


def decode_signed(token: str, key: str, options: dict[str, Any]) -> dict[str, Any]:
    """The claims of a token, which PyJWT 2 decodes only where the accepted algorithm is named."""
    return jwt.decode(token, key, options=options, algorithms=["RS256"])  # type: ignore[arg-type]


def check_file(file: Any, suffixes: tuple[str, ...]) -> None:
    """Refuse an uploaded file whose name is of no known kind: it would be kept, and served, as what it is."""
    name = os.path.basename(str(getattr(file, "filename", "") or ""))
    if file is not None and not (name.lower().endswith(suffixes) and is_name(name)):
        raise MONAILabelException(
            MONAILabelError.INVALID_INPUT, f"file: {name[:60]!r} is none of {', '.join(suffixes)}; rename or convert it"
        )


def infer_and_clean(background: Any, model: str, image: str, session: str, params: str, file: Any, *more: Any) -> Any:
    """MONAI Label's inference; what was uploaded is removed after an error, too."""
    check_file(file, PICTURES)
    check(fault_of(read("params", params)), "params")
    label, output = more
    check("no bundle reads one" if label is not None else None, "label")
    wants_mask = output is not None and output.value in ("image", "dicom_seg")
    masks = app_instance()._infers[model].type == InferType.SEGMENTATION
    check(f"{model} makes no mask; pass output=json" if wants_mask and not masks else None, "output")
    try:
        return _infer(background, model, image, session, params, file, *more)
    except BaseException:
        for task in background.tasks:
            task.func(*task.args, **task.kwargs)
        raise


def check(fault: str | None, what: str) -> None:
    """Refuse a request's ``what`` for its ``fault``."""
    if fault is not None:
        raise MONAILabelException(MONAILabelError.INVALID_INPUT, f"{what}: {fault}")


def read(what: str, text: str) -> Any:
    """The JSON of a request's ``what``.

    Raises:
        MONAILabelException: it is none.
    """
    try:
        return read_json(text)
    except ValueError as error:
        raise MONAILabelException(MONAILabelError.INVALID_INPUT, f"{what}: {error}; pass for example {{}}") from error


def run_checked(method: str, request: Any = None, params: Any = None, **options: Any) -> Any:
    """MONAI Label's start of a task, whose settings are checked whatever way they came."""
    check(fault_of({key: value for key, value in (params or {}).items() if not isinstance(value, dict)}), method)
    check(fault_of({**(request or {})}), method)
    return _run(method, request, params, **options)


def add_picture(background: Any, image: Any, params: str, file: Any, user: Any) -> Any:
    check_file(file, PICTURES)
    check(fault_of_info(read("params", params)), "params")
    return _add_image(background, image, params, file, user)


def save_mask(background: Any, image: str, params: str, tag: str, label: Any, user: Any) -> Any:
    check_file(label, MASKS)
    check(fault_of_info(read("params", params)), "params")
    return _save_label(background, image, params, tag, label, user)


def update_image_info(image: str, info: str, user: Any = None) -> Any:
    check(fault_of_info(read("info", info)), "info")
    return _update_image_info(image, info, user)


def update_label_info(label: str, tag: str, info: str, user: Any = None) -> Any:
    check(fault_of_info(read("info", info)), "info")
    return _update_label_info(label, tag, info, user)


def without_path(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, whose answer does not tell where the server keeps a file."""

    def told(*arguments: Any, **options: Any) -> Any:
        answer = function(*arguments, **options)
        return {key: value for key, value in answer.items() if key != "path"} if isinstance(answer, dict) else answer

    return told


def next_image(strategy: str, params: Any = None, user: Any = None) -> Any:
    """MONAI Label's choice of the next image, whose weights are zero where it chose every image in this second."""
    try:
        return _sample(strategy, params, user)
    except ValueError as error:
        raise HTTPException(429, "activelearning: every image was chosen just now; ask again in a second") from error


def labelled_studies(limit: int | None = None) -> Any:
    """MONAI Label's archive of the labelled images, which fails where there are none."""
    try:
        return _download_dataset(limit)
    except AssertionError as error:
        raise LabelNotFoundException("dataset: no image has a label yet") from error


_run = AsyncTask.run
AsyncTask.run = staticmethod(run_checked)
_download_dataset = monailabel.endpoints.datastore.download_dataset
monailabel.endpoints.datastore.download_dataset = labelled_studies
_infer = monailabel.endpoints.infer.run_inference
_add_image = monailabel.endpoints.datastore.add_image
_save_label = monailabel.endpoints.datastore.save_label
_update_image_info = monailabel.endpoints.datastore.update_image_info
_update_label_info = monailabel.endpoints.datastore.update_label_info
monailabel.endpoints.infer.run_inference = infer_and_clean
monailabel.endpoints.datastore.add_image = add_picture
monailabel.endpoints.datastore.save_label = save_mask
monailabel.endpoints.datastore.update_image_info = update_image_info
monailabel.endpoints.datastore.update_label_info = update_label_info
monailabel.endpoints.datastore.get_image_info = without_path(monailabel.endpoints.datastore.get_image_info)
_sample = monailabel.endpoints.activelearning.sample
monailabel.endpoints.activelearning.sample = without_path(next_image)
_proxy = monailabel.endpoints.proxy.proxy_dicom


async def proxy_with_query(request: Request, op: str, path: str) -> Any:
    """MONAI Label's proxy drops what is searched for, so that every patient is listed."""
    if not isinstance(app_instance().datastore(), DICOMWebDatastore):
        raise HTTPException(404, "proxy: the studies are a folder, not a DICOM archive")
    return await _proxy(request, op, f"{path}?{request.url.query}" if request.url.query else path)


monailabel.endpoints.user.auth.jwt = SimpleNamespace(decode=decode_signed)
monailabel.endpoints.proxy.proxy_dicom = proxy_with_query
monailabel.endpoints.infer.nifti_to_dicom_seg = dicom_segmentation
monailabel.datastore.dicom.nifti_to_dicom_seg = dicom_segmentation
for name in (
    "monailabel.endpoints.infer",
    "monailabel.interfaces.utils.app",
    "ignite",
    "highdicom",
):  # reports, UIDs, much
    logging.getLogger(name).setLevel(logging.WARNING)  # they log reports, UIDs, much
page = TryPage(lambda: app_instance().bundles)
app.include_router(page.router, prefix="/try", dependencies=[Depends(RBAC(RBAC_USER))])
origins = [origin for origin in os.environ.get(ORIGINS, "").split(",") if origin]
for middleware in app.user_middleware:  # MONAI Label answers the pages of every site, with credentials
    if middleware.cls is CORSMiddleware:
        middleware.kwargs["allow_origins"] = origins
app.add_middleware(Guard, most=upload_limit(), loopback=bool(os.environ.get(LOOPBACK)), origins=origins)
app.add_middleware(TrustedHostMiddleware, allowed_hosts=os.environ.get(HOSTS, "*").split(","), www_redirect=False)
