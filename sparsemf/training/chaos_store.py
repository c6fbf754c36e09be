"""The folder of an experiment on propagation of chaos: one file, replaced after each width of each seed."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sparsemf.atomic import write_bytes
from sparsemf.exceptions import InputError
from sparsemf.training.chaos_result import Chaos
from sparsemf.training.config import TrainConfig
from sparsemf.training.store import canonical_safetensors

FILE = "chaos.safetensors"
VERSION = "1"


def stored_chaos(directory: str | Path) -> Chaos:
    """The experiment in a folder, as far as it has come; raises InputError when it is missing or damaged."""
    path = Path(directory) / FILE
    if not path.is_file():
        raise InputError(f"{directory}: expected the folder of an experiment with {FILE}; start one with -o")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in ("coupled", "function", "size", "spread")}
        if (version := metadata.get("format_version")) != VERSION:
            raise InputError(f"{path}: expected an experiment of version {VERSION}, got {version}")
        setup = json.loads(metadata["setup"])
        lists = {name: tuple(setup[name]) for name in ("widths", "systems", "seeds", "times")}
        found = Chaos(
            config=TrainConfig.from_dict(setup["config"]),
            task=setup["task"],
            reference=setup["reference"],
            seconds=float(metadata["seconds"]),
            **lists,
            **arrays,
        )
    except InputError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{path}: not an experiment of sparsemf chaos ({error}); start it again") from None
    count = len(found.seeds), len(found.widths), len(found.times)
    if found.coupled.shape != count or found.function.shape != (*count[:2], count[2] + 1):
        raise InputError(f"{path}: the arrays do not have the shapes of the experiment; start it again")
    return found


def opened(folder: Path, experiment: Chaos, resume: bool) -> Chaos:
    """The experiment to go on with; a new one is written at once, so that the folder is known to be writable."""
    if resume:
        found = stored_chaos(folder)
        if json.dumps(found.setup, sort_keys=True) != json.dumps(experiment.setup, sort_keys=True):
            changed = [key for key, value in experiment.setup.items() if found.setup[key] != value]
            raise InputError(f"resume: {folder} holds an experiment with another {changed[0] if changed else 'setup'}")
        return found
    if (folder / FILE).exists():
        raise InputError(f"{folder} already holds an experiment: continue it with --resume, or take a new folder")
    write(folder, experiment)
    return experiment


def write(folder: Path, experiment: Chaos) -> None:
    arrays = {name: getattr(experiment, name) for name in ("coupled", "function", "size", "spread")}
    metadata = {
        "format_version": VERSION,
        "setup": json.dumps(experiment.setup, sort_keys=True),
        "seconds": repr(experiment.seconds),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / FILE, canonical_safetensors(arrays, metadata))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write ({error.strerror or error}); make room, then continue with --resume"
        ) from None
