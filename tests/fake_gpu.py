"""A GPU that is not there: tensors moved to "cuda" stay on the CPU, are marked, and refuse what a GPU's would refuse.

Made for lines that work on a CPU alone: ``np.asarray(pred)``, ``pred.numpy()``, a constant made on the CPU that meets
features on the GPU. Whether two tensors share a device is known by their storage, so it survives views, MONAI's
metadata and any subclass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

DEVICE = torch.device("cuda", 0)
BETWEEN = {"copy_", "__setitem__", "__set__", "_has_compatible_shallow_copy_type", "index_put_", "is_same_size"}
HOST = {"numpy", "__array__", "storage"}


class FakeGpu(TorchFunctionMode):
    """While active, ``x.to("cuda")`` gives a marked tensor; what is computed of marked tensors is marked."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no address is used again

    def marks(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.storages

    def mark(self, value: Any) -> Any:
        for tensor in tensors(value):
            storage = tensor.untyped_storage()
            self.storages[storage._cdata] = storage
        return value

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        owner = getattr(func, "__self__", None)
        if name == "__get__" and owner in (torch.Tensor.device, torch.Tensor.is_cuda):
            own = self.marks(args[0])
            return own if owner is torch.Tensor.is_cuda else DEVICE if own else func(*args)
        given = [tensor for tensor in tensors((args, kwargs)) if tensor.layout == torch.strided]
        marked = any(map(self.marks, given))
        if name in HOST and marked:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if name in ("to", "cuda", "cpu"):
            return self._moved(func, name, args, kwargs, marked)
        if name == "pin_memory":
            return args[0]
        made = is_gpu(kwargs.get("device"))
        if made:
            kwargs["device"] = "cpu"
        self._check(name, args, given)
        result = func(*args, **kwargs)
        return self.mark(result) if (marked and name not in BETWEEN) or made else result

    def _moved(self, func, name, args, kwargs, marked):
        """``to``, ``cpu`` and ``cuda``; the device leaves the arguments, which may give a type beside it."""
        rest = [arg for arg in args[1:] if isinstance(arg, torch.dtype)]
        where = next((arg for arg in (*args[1:], kwargs.get("device")) if is_device(arg)), None)
        others = {key: value for key, value in kwargs.items() if key in ("dtype", "memory_format")}
        if isinstance(where, torch.Tensor):
            target, rest = self.marks(where), [where.dtype]
        else:
            target = is_gpu(where) if where is not None else {"cuda": True, "cpu": False}.get(name, marked)
        value = args[0].to(*rest, **others) if name == "to" and (rest or others) else args[0]
        if target != self.marks(value):
            value = value.clone() if value.is_leaf and not value.requires_grad else value * 1
        return self.mark(value) if target else value

    def _check(self, name, args, given):
        sides = {self.marks(tensor) for tensor in given if tensor.dim() > 0}
        if len(sides) < 2 or name in BETWEEN:
            return
        if name == "__getitem__" and self.marks(args[0]):
            return  # a GPU's tensor takes indices of the CPU
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found cuda:0 and cpu")


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in nested tuples, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors(part)


def is_device(value: Any) -> bool:
    return isinstance(value, (torch.device, torch.Tensor)) or (isinstance(value, str) and value[:3] in ("cpu", "cud"))


def is_gpu(value: Any) -> bool:
    return value is not None and not isinstance(value, torch.Tensor) and torch.device(value).type == "cuda"


def pretend() -> None:
    """Give this process, a fork, a GPU for good."""
    import common.engine.distributed

    common.engine.distributed.current_device = lambda: DEVICE
    torch.cuda.is_bf16_supported = lambda including_emulation: True
    load = torch.load

    def load_to(file, map_location=None, **options):
        state = load(file, map_location="cpu", **options)
        return state

    torch.load = load_to
    FakeGpu().__enter__()
