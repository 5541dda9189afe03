"""Results into a folder, one after another: pictures as they come, ``predictions.json`` and the page at the end."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from common.results.names import result_names
from common.results.predictions import PredictionFiles, Shown


class Saver:
    """What inference writes, of results whose names are known before they are.

    Args:
        writer: of the bundle.
        names: of all images or studies, in the order of the results.
        dicom: DICOM objects, too; every image must be DICOM.
        overwrite: results that ``folder`` holds may be replaced.

    Raises:
        FileExistsError: ``folder`` holds results.
    """

    def __init__(
        self, writer: PredictionFiles, folder: Path, *, names: Sequence[str], dicom: bool, overwrite: bool
    ) -> None:
        if (folder / "predictions.json").exists() and not overwrite:
            raise FileExistsError(f"folder: {str(folder)!r} holds predictions.json; pass another, or overwrite=True")
        self.writer, self.overwrite = copy.copy(writer), overwrite
        self.writer.folder, self.writer.dicom, self.writer.predictions = folder, dicom, []
        self.stems = result_names(names, are_files=writer.key == "image")

    def require_all_free(self) -> None:
        """Refuse, before anything is predicted, a folder that holds pictures of such names.

        Raises:
            FileExistsError: one of them.
        """
        stems = set(self.stems)
        names = [] if self.overwrite or not self.writer.folder.is_dir() else sorted(self.writer.folder.glob("*_*.png"))
        taken = next((file for file in names if file.stem.rpartition("_")[0] in stems), None)
        if taken is not None:
            raise FileExistsError(f"folder: {str(taken)!r} is there already; pass another folder, or --overwrite")

    def require_free(self, index: int, shown: Shown) -> None:
        """Refuse to replace a picture.

        Raises:
            FileExistsError: one of result ``index`` is there already.
        """
        files = [self.writer.folder / f"{self.stems[index]}_{key}.png" for key in shown.pictures]
        taken = next((file for file in files if not self.overwrite and file.exists()), None)
        if taken is not None:
            raise FileExistsError(f"folder: {str(taken)!r} is there already; pass another folder, or overwrite=True")

    def write(self, index: int, name: str, shown: Shown) -> None:
        """Write the pictures of result ``index``, whose image or study is ``name``.

        Raises:
            FileExistsError: :meth:`require_free`.
        """
        self.require_free(index, shown)
        self.writer.folder.mkdir(parents=True, exist_ok=True)
        self.writer.predictions.append(self.writer.write(name, self.stems[index], shown))

    def finish(self) -> None:
        """Write ``predictions.json`` and the page of what was written."""
        self.writer.write_summary()
