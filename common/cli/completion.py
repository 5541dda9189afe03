"""Options and bundles' names completed by the shell, where ``argcomplete`` is installed and activated there."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

BUNDLES = ("akessfa", "clip_tnseg", "hfcn", "sgf", "d2rnet")
ASKED = "_ARGCOMPLETE"  # set by the shell when it asks


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for completions, and end; do nothing otherwise."""
    if ASKED in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def bundles(prefix: str, **_: object) -> Sequence[str]:
    """Names of the bundles that come along."""
    return [name for name in BUNDLES if name.startswith(prefix)]
