"""The module that a training steps: over several processes, compiled, or with less memory, where that is asked for."""

from __future__ import annotations

import os
import shutil

import torch
from torch import nn

from common.engine.distributed import parallel
from common.nn.recomputation import recompute

COMPILERS = ("c++", "g++", "clang++", "gcc", "cc", "clang", "cl")


def learner(
    module: nn.Module,
    *,
    find_unused_parameters: bool = False,
    compiled: bool = False,
    checkpointing: bool = False,
) -> nn.Module:
    """``module``, its gradients averaged over the processes where there are several.

    Args:
        find_unused_parameters: of :func:`common.engine.distributed.parallel`.
        compiled: by ``torch.compile``, sizes of texts left free: minutes at the start, less time for each step.
        checkpointing: :func:`common.nn.recomputation.recompute`.

    Raises:
        ValueError: both are asked for, there is no C++ compiler, or nothing can be computed again.
    """
    if compiled and checkpointing:
        raise ValueError("gradient_checkpointing: not beside --compile, which itself decides what to keep; pass one")
    if checkpointing:
        recompute(module)
    if compiled:
        _require_compiler()
        module = torch.compile(module)  # type: ignore[assignment]
    return parallel(module, find_unused_parameters=find_unused_parameters)


def _require_compiler() -> None:
    names = [os.environ["CXX"].split()[0]] if os.environ.get("CXX", "").strip() else COMPILERS
    if not any(map(shutil.which, names)):
        raise ValueError(
            f"compile: torch.compile needs a C++ compiler, and none of {', '.join(names)} is here; install one, "
            "or train without --compile"
        )
