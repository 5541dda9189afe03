"""What libraries say and a user cannot act on is left out; ``--verbose`` brings it back.

An environment variable holds the wish, so that processes that load images know it, too.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence

VARIABLE = "BUNDLES_SAY_EVERYTHING"
SILENCED = ("ignite", "monai", "monai.bundle", "onnx_ir", "onnxscript")  # by logging.conf and by the exports


def is_verbose() -> bool:
    """Whether everything is wanted."""
    return os.environ.get(VARIABLE) == "1"


def hush(*loggers: str, messages: Sequence[str] = ()) -> None:
    """Leave out what ``loggers`` say below an error, and warnings that begin with one of ``messages`` (patterns)."""
    if not is_verbose():
        for name in loggers:
            logging.getLogger(name).setLevel(logging.ERROR)
        for message in messages:
            warnings.filterwarnings("ignore", message=message)


def speak_of_everything() -> None:
    """Print versions, every warning, what MONAI, Ignite and the exporters log, and whole tracebacks from now on."""
    os.environ[VARIABLE] = "1"
    for name in SILENCED:
        logging.getLogger(name).setLevel(logging.INFO)
    warnings.resetwarnings()
    from monai.config import print_config

    print_config(sys.stdout)  # as it is now, not as it was when MONAI was imported
