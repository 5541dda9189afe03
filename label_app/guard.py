"""What a request must pass before MONAI Label sees it: host, origin, size, names, settings, and who is open to whom."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl

from fastapi.responses import JSONResponse
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance

from label_app.limits import detail, read_body, refusal_of_limits, too_large
from label_app.names import has_control, is_name
from label_app.request_settings import fault_of, fault_of_tasks, read_json

NAMES = ("image", "label", "tag", "id", "strategy")
FORMS = {  # of other values in a query
    "check_sum": re.compile(r"((MD5|SHA1|SHA256|SHA512):)?[0-9A-Fa-f]{1,128}"),
    "lines": re.compile(r"-?\d{1,6}"),
    "limit_cases": re.compile(r"\d{1,6}"),
    "session_id": re.compile(r""),
}
TASKS = re.compile(r"/(train|scoring|infer|batch/infer|activelearning)/([^/]*)/?")
NEVER = re.compile(r"/infer/wsi(_v2)?(/.*)?|/session(/.*)?", re.DOTALL)  # not of these bundles
PRIVATE = re.compile(r"/(logs|proxy|model|reload|datastore/dataset)(/.*)?", re.DOTALL)
OPEN_TO_NO_ROLE = re.compile(r"/reload/?")  # MONAI Label asks for no role there
LOOPBACK = "LABEL_APP_LOOPBACK"


class Guard:
    """Refuse requests that are too large (413), closed (403, 404, 405), or say what they must not (400).

    Args:
        most: bytes of a request's body.
        loopback: the server is reached from its own machine alone.
        origins: of other sites whose pages may ask; a page of the server itself always may.
    """

    def __init__(self, application: Any, *, most: int, loopback: bool, origins: Collection[str] = ()) -> None:
        self.application, self.most, self.loopback, self.origins = application, most, loopback, set(origins)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is None:
            refused, receive = await self._read(scope, receive)
        answer = self.application if refused is None else refused
        await answer(scope, receive, send)

    def _refusal(self, scope: Any) -> JSONResponse | None:
        """The answer to a request that is not let in."""
        if has_control(scope["path"]):  # the router takes a final line's end for the end of a path
            return detail(400, "the path holds a control character")
        refused = refusal_of_limits(scope, most=self.most, origins=self.origins)
        return refused or self._closed(scope) or bad_names(scope)

    def _closed(self, scope: Any) -> JSONResponse | None:
        """The answer where a call is closed: nobody's, or this machine's alone."""
        method, path = scope["method"], scope["path"]
        if NEVER.fullmatch(path):
            return detail(404, f"{path}: not served; GET /info/ lists what is")
        if path.startswith("/model/") and method not in ("GET", "HEAD"):
            return detail(405, "model: weights are replaced on the server, by training, not by requests")
        lists_paths = (b"output", b"train") in parse_qsl(scope["query_string"])
        private = PRIVATE.fullmatch(path) is not None or method == "DELETE" or lists_paths
        authenticated = settings.MONAI_LABEL_AUTH_ENABLE and not OPEN_TO_NO_ROLE.fullmatch(path)
        if private and not self.loopback and not authenticated:
            return detail(
                403,
                f"{method} {path}: closed, since other machines reach this server and it asks for no token; "
                "bind it to 127.0.0.1 or set MONAI_LABEL_AUTH_ENABLE",
            )
        if path.startswith("/logs/gpu") and shutil.which("nvidia-smi") is None:
            return detail(404, "logs: no GPU here")
        return None

    async def _read(self, scope: Any, receive: Any) -> tuple[JSONResponse | None, Any]:
        """Read the body up to the limit; look at a task's settings."""
        body, again = await read_body(receive, self.most)
        if body is None:
            return too_large(self.most), again
        return (bad_settings(body, scope["path"]) if _is_task(scope) else None), again


def bad_names(scope: Any) -> JSONResponse | None:
    """The answer to names that lead out of the studies, and to tasks that there are not."""
    for name, value in parse_qsl(scope["query_string"].decode("latin-1")):
        if name in NAMES and not is_name(value):
            return detail(400, f"{name}: {value[:60]!r} is no name of an image; a path is not accepted")
        if name in FORMS and not FORMS[name].fullmatch(value):
            return detail(400, f"{name}: {value[:60]!r} is not accepted")
    task = TASKS.fullmatch(scope["path"])
    if task is not None and task[2] and task[1] != "activelearning" and task[2] not in served(task[1]):
        return detail(404, f"{task[1]}: no {task[2][:60]!r}; GET /info/ lists what is served")
    return None


def served(task: str) -> Collection[str]:
    """Names that a task has in the app."""
    instance = app_instance()
    return {"train": instance._trainers, "scoring": instance._scoring_methods}.get(task, instance._infers)


def _is_task(scope: Any) -> bool:
    """Whether the body is a task's settings, which are JSON; an inference takes a form, too."""
    if TASKS.fullmatch(scope["path"]) is None or scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return False
    form = dict(scope["headers"]).get(b"content-type", b"").lower().startswith(b"multipart/form-data")
    return not (form and scope["path"].startswith("/infer/"))


def bad_settings(body: bytes, path: str) -> JSONResponse | None:
    """The answer to settings that are no JSON object, or that a request must not make; all tasks' are told by task."""
    try:
        content = read_json(body)
    except ValueError as error:
        return detail(400, f"the body: {error}")
    task = TASKS.fullmatch(path)
    fault = fault_of(content) if task is not None and task[2] else fault_of_tasks(content)
    return None if fault is None else detail(400, fault)
