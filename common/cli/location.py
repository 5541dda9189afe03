"""Where a bundle lies, when a config asks."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path


def bundle_root(name: str) -> str:
    """The folder of the bundle ``name``: of the config that MONAI runs, in a repository below, or installed.

    Raises:
        ValueError: it is in none of these places.
    """
    from monai.bundle import ConfigWorkflow  # of a config that MONAI runs; who packs need not wait for its import

    frame = inspect.currentframe()
    while frame is not None:
        workflow = frame.f_locals.get("self")
        if isinstance(workflow, ConfigWorkflow):
            return str(workflow.config_root_path.parent)
        frame = frame.f_back
    if Path("bundles", name, name).is_dir():
        return f"bundles/{name}"
    folder = installed(name)
    if folder is None:
        raise ValueError(f"bundle_root: no bundle {name!r} here, and none installed; pass --bundle_root FOLDER")
    return str(folder)


def installed(name: str, *, places: Sequence[str] | None = None) -> Path | None:
    """The folder of the bundle whose package ``name`` is installed: from a wheel its own, else the one around it.

    Args:
        places: folders that may hold the package; None: all that Python imports from.
    """
    if not name.isidentifier():
        return None
    spec = find_spec(name) if places is None else PathFinder.find_spec(name, places)
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    return next((f for f in (package, package.parent) if (f / "configs" / "inference.json").is_file()), None)
