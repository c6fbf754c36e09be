"""The curves of a run, read from the files `sparsemf train` leaves."""

from __future__ import annotations

import json
from pathlib import Path

from reports.support import Page, analyze_document
from sparsemf import reports


def _run(folder: Path, records: int) -> None:
    rows = [
        {"step": 10 * (i + 1), "loss": 1.0 / (i + 1), "rel_error": 0.5 / (i + 1), "temperature": 1e-3 * 0.99**i}
        for i in range(records)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 99')
    run = {"config": {"steps": 10 * records}, "task": {"name": "planted-relu"}, "status": "complete"}
    run["stationarity"] = {"stationary": "no", "reasons": ["the step size was still annealed"]}
    (folder / "run.json").write_text(json.dumps(run))


def test_curves_are_thinned_with_both_ends(tmp_path: Path) -> None:
    _run(tmp_path, 1234)
    found = reports.training_curves(tmp_path)
    assert found is not None
    curves = found["curves"]
    assert len(curves["step"]) == len(curves["loss"]) == len(curves["test_error"]) == 400
    assert curves["step"][0] == 10
    assert curves["step"][-1] == 12340
    assert curves["step"] == sorted(set(curves["step"]))
    assert curves["weight_decay"] is None
    assert found["records"] == 1234


def test_curves_are_drawn(tmp_path: Path) -> None:
    _run(tmp_path, 30)
    page = Page(reports.render(analyze_document() | {"training": reports.training_curves(tmp_path)}))
    assert "planted-relu" in page.text
    assert "the step size was still annealed" in page.text
    assert "test error ‖f − y‖ / ‖y‖" in page.text
    assert "weight decay λ" not in page.text


def test_missing_or_torn_files(tmp_path: Path) -> None:
    assert reports.training_curves(tmp_path / "nowhere") is None
    assert reports.training_curves(tmp_path) is None
    (tmp_path / "metrics.jsonl").write_text("not json\n{\n[]\n")
    assert reports.training_curves(tmp_path) is None
    _run(tmp_path, 3)
    (tmp_path / "run.json").write_text("{")
    found = reports.training_curves(tmp_path)
    assert found is not None
    assert found["config"] is None
    assert "Training" in Page(reports.render(analyze_document() | {"training": found})).text
