"""Training curves: one quantity over the steps, on a log axis."""

from __future__ import annotations

from markupsafe import Markup

from sparsemf.reports.numerals import number
from sparsemf.reports.svg import Drawing, Scale, log, outline
from sparsemf.reports.views.analysis import TrainingView

_NAMES = {
    "loss": ("training loss ½ mean‖f − y‖²", "loss"),
    "test_error": ("test error ‖f − y‖ / ‖y‖", "relative error"),
    "temperature": ("temperature τ", "τ"),
    "weight_decay": ("weight decay λ", "λ"),
    "step_size": ("step size η", "η"),
}


def curves(training: TrainingView, name: str) -> list[tuple[str, Markup]]:
    """(caption, picture) of each curve that has a positive value."""
    found = []
    for key, values in training.curves.items():
        points = [
            (step, value)
            for step, value in zip(training.step, values, strict=True)
            if step is not None and value is not None and value > 0
        ]
        if points:
            title, axis = _NAMES.get(key, (key, key))
            found.append((title, _picture(points, f"{name}-{key}", title, axis)))
    return found


def _picture(points: list[tuple[float, float]], name: str, title: str, axis: str) -> Markup:
    width, height = 330.0, 220.0
    first, last = points[0], points[-1]
    words = f"From {number(first[1])} at step {first[0]:.0f} to {number(last[1])} at step {last[0]:.0f}, logarithmic."
    drawing = Drawing(name, width, height, title, words)
    values = [value for _, value in points]
    y = log(min(values) / 1.3, max(values) * 1.3, height - 48.0, 10.0)
    x = Scale("whole", 0.0, max(last[0], 1.0) * 1.03, 62.0, width - 10)
    drawing.axes(x, y, "step", axis, x_space=64.0)
    drawing.add('<path class="curve upper thin" d="{}"/>', outline([(x(step), y(value)) for step, value in points]))
    return drawing.render()
