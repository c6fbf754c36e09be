"""torch ``.pt/.pth/.bin``: always ``weights_only=True``; nested dicts are flattened, optimiser state is left
aside."""

from __future__ import annotations

import math
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsemf.checkpoints.archives import open_archive
from sparsemf.checkpoints.files import Array, BadFile, Remark, TensorFile, TensorInfo

LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_NOT_WEIGHTS = re.compile(r"^(optim|opt_|opt$|lr_sched|sched|(grad_)?scaler|amp|rng|callbacks|loops)", re.IGNORECASE)
_MAX_ENTRIES = 1_000_000
_MAX_DEPTH = 12
_WAY_OUT = "save model.state_dict(), or a safetensors file, from the program that made it"


class TorchFile(TensorFile):
    """A torch checkpoint of plain tensors in nested dicts and lists."""

    format = "torch"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors: dict[str, Any] = {}
        self._scalars: dict[str, str] = {}
        self._remarks: list[Remark] = []
        self._entries = 0
        content = _load(path)
        import torch

        if isinstance(content, torch.Tensor):
            raise BadFile(path, f"expected a state dict, got one tensor of shape {tuple(content.shape)}; {_WAY_OUT}")
        if not isinstance(content, (Mapping, list, tuple)):
            raise BadFile(path, f"expected a state dict, got {type(content).__name__}; {_WAY_OUT}")
        self._walk(content, (), torch.Tensor)
        self._strip_common_containers()
        self.tensors = {
            name: TensorInfo(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in self._tensors.items()
        }
        self.metadata = self._scalars
        self.remarks = tuple(self._remarks)

    def _walk(self, value: Any, trail: tuple[str, ...], tensor_type: type) -> None:
        self._entries += 1
        if self._entries > _MAX_ENTRIES or len(trail) > _MAX_DEPTH:
            raise BadFile(self.path, f"expected a state dict, got nesting beyond {_MAX_ENTRIES} entries; {_WAY_OUT}")
        name = "\0".join(trail)
        if isinstance(value, tensor_type):
            reason = _unreadable(value)
            if reason:
                self._remarks.append(Remark(".".join(trail), reason))
            else:
                self._tensors[name] = value
        elif isinstance(value, Mapping):
            for key, item in value.items():
                if isinstance(item, (Mapping, list, tuple)) and _NOT_WEIGHTS.match(str(key)):
                    self._remarks.append(Remark(".".join((*trail, str(key))), "state of the training run, not weights"))
                else:
                    self._walk(item, (*trail, str(key)), tensor_type)
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self._walk(item, (*trail, str(index)), tensor_type)
        elif (
            isinstance(value, (str, int, float))
            and 0 < len(trail) <= 2
            and trail[-1] in ("activation", "scale", "format_version")
        ):
            self._scalars.setdefault(trail[-1], str(value))

    def _strip_common_containers(self) -> None:
        """{"model": {"fc1.weight": …}} is about fc1, whatever the wrappers are called."""
        trails = {name: name.split("\0") for name in self._tensors}
        while trails and all(len(t) > 1 for t in trails.values()) and len({t[0] for t in trails.values()}) == 1:
            trails = {name: trail[1:] for name, trail in trails.items()}
        joined = {".".join(trail): self._tensors[name] for name, trail in trails.items()}
        if len(joined) != len(self._tensors):
            raise BadFile(self.path, f"expected distinct tensor names, got repeated ones; {_WAY_OUT}")
        self._tensors = joined

    def _values(self, name: str) -> Array:
        import torch

        return self._tensors[name].detach().to(torch.float64).contiguous().numpy()

    def close(self) -> None:
        self._tensors = {}


def _unreadable(tensor: Any) -> str | None:
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"a {'quantized' if tensor.is_quantized else tensor.layout} tensor: only dense ones are read"
    if tensor.device.type == "meta":
        return "a tensor without data (meta device)"
    if math.prod(tensor.shape) * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "a view that is larger than its storage"
    return None


def _load(path: Path) -> Any:
    import torch

    with path.open("rb") as stream:
        zipped = stream.read(4) == b"PK\x03\x04"
    if zipped:
        with open_archive(path) as archive:
            stored = all(member.compress_type == 0 for member in archive.infolist())
            if any("/code/" in member.filename for member in archive.infolist()):
                raise BadFile(path, f"expected a state dict, got a TorchScript program, which is never run; {_WAY_OUT}")
    else:
        stored = False
    try:
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")
            # by its name alone torch would take a renamed archive for a safetensors file
            mapped = stored and path.suffix != ".safetensors"
            return torch.load(path if mapped else stream, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        needed = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({needed[1]})" if needed else ""
        raise BadFile(
            path, f"expected plain tensors, got a pickle that needs code{what}, which is never run; {_WAY_OUT}"
        ) from None
    except Exception as error:  # a corrupt pickle or archive makes torch raise nearly every kind of error
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise BadFile(path, f"expected a whole torch file, got a broken one ({first}); copy or save it again") from None
