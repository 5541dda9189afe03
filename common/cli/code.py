"""Whether a bundle brings the code that this process runs."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path


class CodeConflict(ValueError):
    """A bundle brings other code than what this process runs."""


def check_code(folder: Path) -> None:
    """Refuse a packed bundle whose code, or whose copy of ``common``, is not that of this process.

    Python loads a package once: a second version of it would be silently answered by the first.

    Raises:
        CodeConflict: with both versions.
    """
    for name in ("common", folder.name):
        brought = folder / name / "__init__.py"
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
        if spec is None or spec.origin is None or not brought.is_file() or brought.samefile(spec.origin):
            continue
        ours = Path(spec.origin).parent
        if fingerprint(ours) != fingerprint(brought.parent):
            raise CodeConflict(
                f"{folder.name}: it brings {name} {version(folder, brought.parent)}, and {name} "
                f"{version(ours.parent, ours)} of {str(ours)!r} is loaded; serve bundles of one version, or each by a "
                "server of its own"
            )


def fingerprint(package: Path) -> str:
    """Digest of a package's code."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def version(root: Path, package: Path) -> str:
    """A package's version, as it states it or as the metadata of the bundle around it do, and its fingerprint."""
    stated = re.search(r"""__version__ = ["'](.+)["']""", (package / "__init__.py").read_text(encoding="utf-8"))
    metadata = root / "configs" / "metadata.json"
    told = json.loads(metadata.read_text(encoding="utf-8"))["version"] if metadata.is_file() else "of unknown version"
    return f"{stated[1] if stated else told} ({fingerprint(package)})"
