"""A copy of a torch checkpoint with its nesting, wrappers and training state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparsemf.checkpoints.copies.base import Changes, Copy, Resized
from sparsemf.checkpoints.torch_file import _NOT_WEIGHTS, _load
from sparsemf.exceptions import InputError


class TorchCopy(Copy):
    """Tensors are replaced at their places in the nested dicts."""

    suffixes = (".pt", ".pth", ".bin")

    def advice(self, resized: tuple[Resized, ...]) -> tuple[str, ...]:
        state = [remark.name for remark in self.file.remarks if "training run" in remark.reason]
        if not state:
            return ()
        return (f"{', '.join(state)}: of the old width; continue training with a new optimiser",)

    def write(self, path: Path, changes: Changes, resized: tuple[Resized, ...]) -> None:
        """The content as it was, nested dicts and all, with the tensors of the changed names replaced."""
        import torch

        content = _load(self.source)
        trails = [trail for trail in _trails(content, ()) if not _training_state(trail)]
        depth = _common_depth(set(self.file.tensors), trails)
        places = {".".join(trail[depth:]): trail for trail in trails}
        wanted: dict[tuple[str, ...], Any] = {}
        for name, entry in changes.items():
            raw = torch.frombuffer(bytearray(changes.bytes(name)), dtype=getattr(torch, entry.dtype))
            if name in places:
                wanted[places[name]] = raw.reshape(entry.shape)
            else:  # a part that a native block gains: beside its ``inner``, whose dotted name may be one key
                role = name.rsplit(".", 1)[-1]
                trail = places[name.removesuffix(role) + "inner"]
                container = content
                for part in trail[:-1]:
                    container = _child(container, part)
                container[trail[-1].removesuffix("inner") + role] = raw.reshape(entry.shape)
        torch.save(_replaced(content, (), wanted), path)


def _trails(value: Any, trail: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The places of all tensors in nested dicts, lists and tuples."""
    import torch

    if isinstance(value, torch.Tensor):
        yield trail
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _trails(item, (*trail, str(key)))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _trails(item, (*trail, str(index)))


def _child(container: Any, part: str) -> Any:
    """What lies under the part of a trail: keys need not be strings."""
    if isinstance(container, Mapping):
        return next(value for key, value in container.items() if str(key) == part)
    return container[int(part)]


def _training_state(trail: tuple[str, ...]) -> bool:
    return any(_NOT_WEIGHTS.match(part) for part in trail[:-1])


def _common_depth(names: set[str], trails: list[tuple[str, ...]]) -> int:
    """How many common containers ("model", "state_dict") the reader's names leave out."""
    longest = max((len(trail) for trail in trails), default=0)
    for depth in range(longest):
        if names <= {".".join(trail[depth:]) for trail in trails}:
            return depth
    raise InputError("expected a state dict of plain nested dicts to write back into; save it as safetensors first")


def _replaced(value: Any, trail: tuple[str, ...], wanted: Mapping[tuple[str, ...], Any]) -> Any:
    """``value`` with the wanted places replaced; dicts and lists in place, so that their types stay."""
    if trail in wanted:
        return wanted[trail]
    if isinstance(value, dict):
        for key in list(value):
            value[key] = _replaced(value[key], (*trail, str(key)), wanted)
    elif isinstance(value, list):
        value[:] = [_replaced(item, (*trail, str(index)), wanted) for index, item in enumerate(value)]
    elif type(value) is tuple:
        return tuple(_replaced(item, (*trail, str(index)), wanted) for index, item in enumerate(value))
    return value
