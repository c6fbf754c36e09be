"""Checkpoints: readers that find two-layer blocks in files and never run what is in them, and the writer."""

from sparsemf.checkpoints.estimators import from_sklearn
from sparsemf.checkpoints.files import BadFile, Remark, TensorInfo, file_sha256
from sparsemf.checkpoints.formats import SUFFIXES, has_known_suffix
from sparsemf.checkpoints.inspection import BlockInfo, Inspection
from sparsemf.checkpoints.loading import inspect, load, load_blocks
from sparsemf.checkpoints.opened import OpenCheckpoint
from sparsemf.checkpoints.pairing import Pairing, pair_blocks
from sparsemf.checkpoints.write_back import WriteBack
from sparsemf.checkpoints.writer import save

__all__ = [
    "SUFFIXES",
    "BadFile",
    "BlockInfo",
    "Inspection",
    "OpenCheckpoint",
    "Pairing",
    "Remark",
    "TensorInfo",
    "WriteBack",
    "file_sha256",
    "from_sklearn",
    "has_known_suffix",
    "inspect",
    "load",
    "load_blocks",
    "pair_blocks",
    "save",
]
