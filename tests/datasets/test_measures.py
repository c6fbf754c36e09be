"""Trained measures that ship with the package, and planted suites: their files are what they are said to be."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

import sparsemf
from sparsemf.exceptions import InputError
from sparsemf.symmetry import quotient
from sparsemf_datasets import Measure, load_measure, load_task, measure, measures, write_suite
from sparsemf_datasets.trained_measures import located


@pytest.mark.parametrize("found", measures(), ids=lambda found: found.name)
def test_files_are_those_of_the_manifest(found: Measure) -> None:
    network = load_measure(found.name)  # ``path`` compares the hash
    words = shlex.split(found.command)
    assert words[:2] == ["sparsemf", "train"]
    assert network.width == int(words[words.index("--width") + 1])
    assert located(f"dataset:{found.name}") == str(found.path)


def test_a_trained_measure_holds_its_teachers_atoms() -> None:
    found = measure("tanh-teacher")
    analysis = sparsemf.analyze(load_measure(found.name))
    assert analysis.s_star.certified
    assert analysis.s_star.value == found.atoms
    teacher = load_task("planted-tanh").teacher.inner  # type: ignore[union-attr]
    lines = np.abs(
        (analysis.dictionary.inner / np.linalg.norm(analysis.dictionary.inner, axis=1, keepdims=True))
        @ (teacher / np.linalg.norm(teacher, axis=1, keepdims=True)).T
    )
    assert np.all(lines.max(axis=0) > 1 - 1e-3)


def test_unknown_and_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sparsemf_datasets.trained_measures as module

    with pytest.raises(InputError, match="known: relu-teacher"):
        measure("nothing")
    monkeypatch.setattr(module, "_FOLDER", tmp_path)
    (tmp_path / "relu-teacher.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="damaged"):
        _ = module.Measure("relu-teacher", "", "", measures()[0].sha256, 5).path


def test_planted_suite_has_the_stated_atoms(tmp_path: Path) -> None:
    truth = write_suite("planted", tmp_path / "out", count=6, seed=3)
    assert json.loads((tmp_path / "out" / "truth.json").read_text())["truth"] == truth
    for file, atoms in truth.items():
        network = sparsemf.load(tmp_path / "out" / file)
        assert network.width >= 32
        assert quotient(network).network.width == atoms


def test_copies_are_the_same_function_within_classes_only(tmp_path: Path) -> None:
    truth = write_suite("copies", tmp_path / "out", count=26)
    x = np.random.default_rng(0).standard_normal((64, 8))
    values = {file: sparsemf.load(tmp_path / "out" / file)(x) for file in truth}
    for a, own in truth.items():
        for b, other in truth.items():
            gap = float(np.max(np.abs(values[a] - values[b])))
            assert (gap < 1e-9) == (own == other)


def test_suite_spares_other_folders(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="something else"):
        write_suite("copies", tmp_path)
    write_suite("copies", tmp_path / "new", count=2)
    write_suite("copies", tmp_path / "new", count=3)  # its own folder may be written again
    assert len(json.loads((tmp_path / "new" / "truth.json").read_text())["truth"]) == 3
