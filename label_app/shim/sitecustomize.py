"""Two packages that MONAI Label 0.8.5 imports do not fit beside current ones; this lets Python import them.

On the path of the server and of the processes that it starts for training. torchvision from PyPI is built for CUDA and
cannot register its operators beside a CPU build of torch: their names are declared, nothing here calls them.
pydicom-seg reads a module that pydicom 3 renamed.
"""

import importlib.abc
import importlib.metadata
import sys
from typing import Any

OPERATORS = ("nms", "qnms")
_libraries: list[Any] = []  # torch forgets what is declared when the library object goes


class BeforeImport(importlib.abc.MetaPathFinder):
    """Prepare for a package as it is about to be imported."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        prepare = PREPARATIONS.pop(fullname, None)
        if prepare is not None:
            prepare()


def declare_operators() -> None:
    """Declare torchvision's operators where torch has no CUDA and torchvision is not the CPU build."""
    import torch

    if torch.version.cuda is not None or importlib.metadata.version("torchvision").endswith("+cpu"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)


def name_storage_classes() -> None:
    """Give pydicom 3's identifiers the name of the module that held them in pydicom 2."""
    import pydicom.uid

    sys.modules.setdefault("pydicom._storage_sopclass_uids", pydicom.uid)


PREPARATIONS = {"torchvision": declare_operators, "pydicom_seg": name_storage_classes}
sys.meta_path.insert(0, BeforeImport())
