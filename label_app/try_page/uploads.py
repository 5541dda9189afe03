"""What the page sends with a question: which model, files, a text; files get names of our own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import FormData, UploadFile

from common.images.dicom import PREAMBLE
from common.images.files import frames_of
from label_app.names import is_encodable
from label_app.pictures import PICTURES, check_size
from label_app.request_settings import LONGEST_TEXT
from label_app.served_bundle import ServedBundle

MOST_FRAMES = 100_000


@dataclass(frozen=True)
class Question:
    """What is asked of a model.

    Attributes:
        images: the files, in a folder of their own.
        frame: of a clip, from 1.
        beside: "report", "phrase" or "mask", where the model reads one.
        names: of the files as the person knows them, by our paths.
    """

    images: Sequence[Path]
    frame: int
    beside: dict[str, str]
    names: dict[str, str]

    @property
    def image(self) -> str:
        """The file, or the folder of several views."""
        return str(self.images[0] if len(self.images) == 1 else self.images[0].parent)

    def in_the_persons_words(self, message: str) -> str:
        """``message`` with the names of files as the person knows them."""
        for ours, theirs in self.names.items():
            frame = f"{Path(ours).name.partition('.')[0]}.frame"
            message = message.replace(f"{Path(ours).parent}/", "")
            message = message.replace(Path(ours).name, theirs).replace(frame, f"{theirs}.frame")
        return message


async def read_question(form: FormData, bundle: ServedBundle, folder: Path) -> Question:
    """The question in ``form``; its files are written to ``folder``.

    Raises:
        ValueError: what is missing or not accepted, in one sentence.
    """
    uploads = [file for file in form.getlist("image") if isinstance(file, UploadFile) and file.filename]
    if not uploads:
        raise ValueError("image: none was chosen; choose or drop a file")
    frame = str(form.get("frame") or "1")
    if not (re.fullmatch(r"[0-9]{1,6}", frame) and 1 <= int(frame) <= MOST_FRAMES):
        raise ValueError("image: the number of the frame is no whole number from 1")
    most = int(bundle.config.get("views", 1))
    if len(uploads) > most:
        raise ValueError(f"image: {len(uploads)} files were chosen; {bundle.name} reads {most} at most")
    names: dict[str, str] = {}
    views = folder / "views"
    images = [await _keep(file, views / f"image_{number}", names) for number, file in enumerate(uploads, start=1)]
    return Question(images, int(frame), await _beside(form, bundle, folder, names), names)


async def _beside(form: FormData, bundle: ServedBundle, folder: Path, names: dict[str, str]) -> dict[str, str]:
    """What is given beside the image, of what the model reads."""
    beside = {} if bundle.text is None else {bundle.text: _text(form, bundle.text)}
    mask = form.get("mask")
    if "mask" in bundle.config and isinstance(mask, UploadFile) and mask.filename:
        beside["mask"] = str(await _keep(mask, folder / "mask" / "mask", names))
    return beside


def _text(form: FormData, id: str) -> str:
    """The text, which is data: never a file of the server."""
    given = form.get("text") or ""
    text = given.strip() if isinstance(given, str) else None
    if text is None or len(text) > LONGEST_TEXT or not is_encodable(text):
        raise ValueError(f"{id}: it is no text of at most {LONGEST_TEXT} characters")
    if text.endswith(".txt"):
        raise ValueError(f"{id}: pass the text, not the name of a file")
    return text


async def _keep(file: UploadFile, stem: Path, names: dict[str, str]) -> Path:
    """Write ``file`` to ``stem`` with its own suffix, if that is of a picture; check its size in pixels."""
    content = await file.read()
    given = Path(str(file.filename).replace("\\", "/")).name[:100]
    path = stem.with_name(stem.name + _suffix(given, content))
    names[str(path)] = given
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def _suffix(name: str, content: bytes) -> str:
    """The kind of a picture by its name; DICOM has none often.

    Raises:
        ValueError: it is of no known kind.
    """
    suffix = next((suffix for suffix in PICTURES if name.lower().endswith(suffix)), None)
    if suffix is None and content[PREAMBLE : PREAMBLE + 4] == b"DICM":
        return ".dcm"
    if suffix is None:
        raise ValueError(f"image: {name!r} is none of {', '.join(PICTURES)}; choose a picture or a DICOM file")
    return suffix


def require_sizes(question: Question) -> None:
    """Refuse pictures that would fill the memory, and a mask of a clip.

    Raises:
        ValueError, FileNotFoundError: which; or one is damaged.
    """
    for image in question.images:
        check_size(str(image))
    if "mask" in question.beside:
        check_size(question.beside["mask"])
        if len(frames_of(question.image)) > 1:
            raise ValueError("mask: the image is a clip; leave the mask out, or choose a single frame")
