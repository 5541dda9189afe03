"""How much memory a process may still take: of the machine, and of the container that it runs in."""

from __future__ import annotations

from pathlib import Path

import psutil

GROUPS = (  # of cgroups v2 and v1: limit, use
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory() -> float:
    """Bytes of memory that are free: the least of what the machine and its control groups tell."""
    groups = [free for limit, use in GROUPS if (free := _of_group(limit, use)) is not None]
    return min([float(psutil.virtual_memory().available), *groups])


def _of_group(limit: str, use: str) -> float | None:
    """None: there is no such group, or it sets no limit."""
    try:
        return max(0.0, float(Path(limit).read_text(encoding="ascii")) - float(Path(use).read_text(encoding="ascii")))
    except (OSError, ValueError):
        return None
