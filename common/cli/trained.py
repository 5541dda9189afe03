"""Where a trained bundle lies: a folder, a packed zip, or an archive of its network (``.ts``, ``.pt2``).

Code and configs are those of the folder or zip; an archive brings weights, settings and tokenizer, and the bundle that
is here, by its name, the rest. Of an archive the trained files are read, and no code in it runs.
"""

from __future__ import annotations

import atexit
import difflib
import hashlib
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from common.cli.location import installed

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
TRAINED = (  # a trained bundle's files beside model.pt and model.json
    "report_tokenizer.json", "tokenizer.json", "familiarity.safetensors", "calibration.json",
    "sentence_calibration.json", "report_fit.json", "expected_dice.json", "findings.json",
    "detector.pt", "detector.json", "detector_settings.json",
)  # fmt: skip
ARCHIVES = (".ts", ".pt2")
PACKED = (".zip", *ARCHIVES)
INSIDE = "bundle"  # folder in an archive, of the trained files and of NAME, which names the bundle
NAME = "bundle.json"


class Trained(NamedTuple):
    """A trained bundle on disk.

    Attributes:
        folder: with ``configs`` and, unless it is installed, the code.
        models: with ``model.pt`` and what belongs to it.
    """

    folder: Path
    models: Path


def find(bundle: str | Path) -> Trained:
    """The bundle of that name, in that folder, zip or archive; what is unpacked lasts as long as this process.

    Raises:
        ValueError: it is none of these; an archive without its bundle's files, or of no bundle that is here.
    """
    path = Path(bundle)
    if path.suffix == ".zip" and path.is_file():
        folder = _unpacked(path)
    elif path.suffix in ARCHIVES and path.is_file():
        return _from_archive(path)
    else:
        folder = _folder_of(str(bundle))
    return Trained(folder, folder / "models")


def add_to(archive: Path, *, bundle: str, files: Mapping[str, Path]) -> None:
    """Add to an archive that torch wrote, a zip, what :func:`find` needs to predict with it.

    Args:
        bundle: its name.
        files: "model.pt", "model.json" and some of :data:`TRAINED`, by name; those that are no files are left out.
    """
    with zipfile.ZipFile(archive, "a") as whole:
        top = PurePosixPath(whole.namelist()[0]).parts[0]
        whole.writestr(f"{top}/{INSIDE}/{NAME}", json.dumps({"name": bundle}))
        for name, file in files.items():
            if file.is_file():
                whole.writestr(f"{top}/{INSIDE}/{name}", file.read_bytes())


def digest_of(file: Path) -> str:
    """SHA-256 of ``file``, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _folder_of(bundle: str) -> Path:
    path = Path(bundle)
    for folder in (path, BUNDLES / path, installed(bundle)):
        if folder is not None and (folder / "configs" / "inference.json").is_file():
            return folder.resolve()
    names = sorted(folder.name for folder in BUNDLES.glob("*") if (folder / "configs").is_dir())
    nearest = difflib.get_close_matches(bundle, names, n=1)
    hint = f"; the nearest name is {nearest[0]!r}" if nearest else f"; names are {', '.join(names)}" if names else ""
    raise ValueError(f"bundle: {bundle!r} is no name, folder, zip or archive of a bundle{hint}")


def _unpacked(path: Path) -> Path:
    """The only folder in a packed bundle, whose files stay below it."""
    folder = _temporary()
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        (inside,) = [entry for entry in folder.iterdir() if (entry / "configs" / "inference.json").is_file()]
    except (zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f"bundle: {str(path)!r} is no packed bundle ({error}); pack one with common.pack") from error
    return inside


def _from_archive(path: Path) -> Trained:
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {PurePosixPath(name).parts[1:]: name for name in archive.namelist()}
            files = {
                name: archive.read(parts[INSIDE, name])
                for name in (NAME, "model.pt", "model.json", *TRAINED)
                if (INSIDE, name) in parts
            }
        bundle = str(json.loads(files[NAME])["name"])
    except zipfile.BadZipFile as error:
        raise ValueError(f"bundle: {str(path)!r} is damaged ({error}); export it anew") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"bundle: {str(path)!r} holds no bundle's trained files; export it anew (--run_id export_torchscript or "
            "export_program of configs/inference.json)"
        ) from error
    folder = _ours(bundle)
    if folder is None:
        raise ValueError(f"bundle: {str(path)!r} is of {bundle!r}, and no bundle of that name is installed here")
    models = _temporary()
    for name in files.keys() - {NAME}:
        (models / name).write_bytes(files[name])
    return Trained(folder, models)


def _ours(bundle: str) -> Path | None:
    """The bundle of this repository or installation, whose config may run: no folder that lies where one works."""
    if not bundle.isidentifier():
        return None
    packed = BUNDLES.parent if (BUNDLES.parent / bundle / "__init__.py").is_file() else None
    for folder in (BUNDLES / bundle, packed):
        if folder is not None and (folder / "configs" / "inference.json").is_file():
            return folder
    elsewhere = [place for place in sys.path if place and Path(place).resolve() != Path.cwd()]
    return installed(bundle, places=elsewhere)


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bundle-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
