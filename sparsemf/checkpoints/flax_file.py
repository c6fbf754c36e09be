"""Flax ``.msgpack`` (``flax.serialization.to_bytes``): nested maps of arrays; one array at a time is read."""

from __future__ import annotations

import math
import mmap
from pathlib import Path

import numpy as np

from sparsemf.checkpoints.files import Array, BadFile, Remark, TensorFile, TensorInfo, decode
from sparsemf.checkpoints.msgpack_index import ArraySpan, Chunked, Malformed, index

_SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int8": 1, "uint8": 1, "int16": 2, "int32": 4}
_SIZES |= {"int64": 8, "uint32": 4, "uint16": 2, "bool": 1, "float8_e4m3fn": 1, "float8_e5m2": 1}
# collections and state that are no weights
_NOT_WEIGHTS = ("opt_state", "step", "rng", "dropout_rng")
_CONTAINERS = ("params", "model")


class FlaxFile(TensorFile):
    """The parameters of a Flax module; names are the keys joined by dots, the containers around all are left
    out."""

    format = "flax"

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            self._data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self._index()
        except (Malformed, RecursionError) as error:
            self._data.close()
            raise BadFile(
                path, f"expected a whole Flax msgpack file, got a broken one ({error}); copy or save it again"
            ) from None
        except BaseException:
            self._data.close()
            raise

    def _index(self) -> None:
        spans: dict[tuple[str, ...], ArraySpan | Chunked] = {}
        state: set[str] = set()
        for trail, span in index(self._data):
            if trail[0] in _NOT_WEIGHTS:
                state.add(trail[0])
            else:
                spans[trail] = span
        # {"params": …} of init, {"params": …, "batch_stats": …}, and the train state's own params
        while spans and all(len(t) > 1 for t in spans) and len({t[0] for t in spans}) == 1:
            spans = {trail[1:]: span for trail, span in spans.items()}
        if any(trail[0] in _CONTAINERS for trail in spans):
            spans = {
                trail[1:] if trail[0] in _CONTAINERS and len(trail) > 1 else trail: s for trail, s in spans.items()
            }
        self._spans = {".".join(trail): span for trail, span in spans.items()}
        if len(self._spans) != len(spans):
            raise Malformed("several arrays of one name")
        self.tensors = {name: self._info(name, span) for name, span in self._spans.items()}
        self.metadata = {}
        self.remarks = tuple(Remark(name, "state of the training run, not weights") for name in sorted(state))

    def _info(self, name: str, span: ArraySpan | Chunked) -> TensorInfo:
        chunks = span.chunks if isinstance(span, Chunked) else (span,)
        for chunk in chunks:
            size = _SIZES.get(chunk.dtype)
            if size is not None and math.prod(chunk.shape) * size != chunk.size:
                raise Malformed(f"{name}: shape {chunk.shape} of {chunk.dtype} does not fit its {chunk.size} bytes")
        if isinstance(span, Chunked) and sum(math.prod(c.shape) for c in chunks) != math.prod(span.shape):
            raise Malformed(f"{name}: chunks that do not fill the shape {span.shape}")
        return TensorInfo(name, span.shape, chunks[0].dtype)

    def span(self, name: str) -> ArraySpan | Chunked:
        """Where the tensor lies."""
        return self._spans[name]

    def _values(self, name: str) -> Array:
        span = self._spans[name]
        if isinstance(span, Chunked):
            return np.concatenate([self._numbers(chunk).reshape(-1) for chunk in span.chunks]).reshape(span.shape)
        return self._numbers(span)

    def _numbers(self, span: ArraySpan) -> Array:
        raw = np.frombuffer(self._data, dtype=np.uint8, count=span.size, offset=span.start).tobytes()
        return decode(raw, span.dtype, span.shape)

    def close(self) -> None:
        self._data.close()
