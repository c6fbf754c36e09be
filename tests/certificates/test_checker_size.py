"""The checker stays small and alone: what it imports, and how many lines must be read to believe a claim."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import sparsemf

FOLDER = Path(sparsemf.__file__).parent / "certificates" / "checker"
PACKAGE = "sparsemf.certificates.checker"
MODULES = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if path.stem != "__init__"}
ALLOWED = {"numpy", "flint", PACKAGE}

# What must be read for one kind of claim.  The demand is fewer than 1,000 lines for each kind; it is not met, and these
# ceilings, a little above the present numbers, keep it from getting worse unnoticed.
CEILINGS = {
    # everywhere 6 lines take data rows as float64 whatever type they come in: differences of bytes wrap around
    # 100 lines are the closed form of relu neurons, which makes their bounds 20 times tighter than the series does; 15
    # the weights of more than a hundred Hermite degrees, which do the same for smooth ones
    "equivalence": 2421,
    "equivalence of gated blocks": 3006,
    "orbit distance": 1351,
    "matching": 1301,
    # 15 lines above what plain blocks need: flattening's verified tails take any two Gram matrices, dictionaries gates;
    # 27 more tell what is free, and write a quadratic part in neurons where it counts; 34 more let degrees 1 and 0 take
    # part where the affine part is charged, 31 in gated blocks; 27 more read the evidence of kink matrices, which are a
    # module of 192; 76 more are the distance from polynomials on data rows, a module,
    # and 14 the ranks there
    "sparsity": 2856,
    "sparsity by kink matrices": 3053,
    "sparsity of gated blocks": 3593,
    "exact counts": 726,
    # 73 lines are exp and powers (a module), 60 what grows in boxes and profiles, and forms; 115 of the Gaussian law's
    # the norms of flattened tensors, which bound sup‖η‖ in any dimension
    "optimality": 1841,
    "optimality under a Gaussian law": 3801,
    # 245 lines are the joint degrees, which three in five families with S > d need for their upper ends
    # 7 bound what a document may ask of them
    "depths": 2823,
}
ALONE = {"transport": 250, "measure": 260, "matching": 200}
"""Code lines of the modules that only one of the informative numbers needs."""
BESIDE = ("transport", "matching")
GATED = ("gated", "gated_series", "gated_flattening")
CONVEX = ("optimality", "population")


def code_lines(path: Path) -> int:
    """Lines that hold code: not blank, not only a comment, not in a docstring."""
    text = path.read_text(encoding="utf-8")
    quiet = {
        tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER
    }  # fmt: skip
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in quiet:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        for statement in getattr(node, "body", ()) if isinstance(getattr(node, "body", ()), list) else ():
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                lines.difference_update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    return len(lines)


def imported(path: Path) -> set[str]:
    """The modules that a file imports anywhere, those of the checker with their full names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            inside = node.module == PACKAGE
            found.update(f"{PACKAGE}.{alias.name}" if inside else str(node.module) for alias in node.names)
    return found


def needed(*roots: str, without: tuple[str, ...] = ()) -> set[str]:
    """The modules of the checker that are reached from ``roots``, not through ``without``."""
    seen: set[str] = set()
    queue = list(roots)
    while queue:
        name = queue.pop()
        if name not in seen and name not in without:
            seen.add(name)
            queue += [x.removeprefix(f"{PACKAGE}.") for x in imported(MODULES[name]) if x.startswith(f"{PACKAGE}.")]
    return seen


KINDS = {
    "equivalence": needed("check", without=("exact", "depth", *CONVEX, "sparsity", "gated", "gated_series", *BESIDE)),
    "equivalence of gated blocks": needed("check", without=("exact", "depth", *CONVEX, "sparsity", *BESIDE)),
    "orbit distance": needed("transport"),
    "matching": needed("matching"),
    "sparsity": needed("sparsity", without=(*GATED, "kink_matrices", *BESIDE)) | {"check"},
    "sparsity by kink matrices": needed("sparsity", without=(*GATED, *BESIDE)) | {"check"},
    "sparsity of gated blocks": needed("sparsity", without=("kink_matrices", *BESIDE)) | {"check"},
    "exact counts": needed("exact") | {"check"},
    "optimality": needed("optimality") | {"check"},
    "optimality under a Gaussian law": needed("population") | {"check"},
    "depths": needed("depth", without=("equivalence",)) | {"check", "depth_power_sums"},
}
"""What stands beside a verdict is counted apart.  Sparsity asks :mod:`equivalence` for the distance to its dictionary,
depths for that to the merged atoms.
"""


@pytest.mark.parametrize("name", MODULES)
def test_imports(name: str) -> None:
    for module in imported(MODULES[name]):
        top = module.split(".")[0]
        known = top in sys.stdlib_module_names or top in ALLOWED or module.startswith(f"{PACKAGE}.")
        assert known, f"{name} imports {module}"


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_run_or_imported_by_name(name: str) -> None:
    """No eval, exec, __import__, importlib, pickle: what is imported is what is written at the top."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        assert called not in ("eval", "exec", "compile", "__import__", "getattr_static"), (name, called)
    assert not imported(MODULES[name]) & {"importlib", "pickle", "marshal", "shelve", "subprocess", "ctypes", "runpy"}


def test_loading_the_checker_loads_nothing_else() -> None:
    """Neither the solvers and file formats nor the rest of the project, in a fresh interpreter."""
    code = f"import sys; import {PACKAGE}.check; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(done.stdout.split())
    for module in loaded:
        if module.split(".")[0] == "sparsemf":
            assert module in ("sparsemf", "sparsemf.certificates") or module.startswith(PACKAGE), module
    foreign = {"torch", "scipy", "cvxpy", "safetensors", "sklearn", "ot", "jax", "click", "rich"}
    assert not {module.split(".")[0] for module in loaded} & foreign


def test_every_module_is_counted() -> None:
    assert set.union(*KINDS.values()) == set(MODULES)


@pytest.mark.parametrize("kind", KINDS)
def test_size(kind: str) -> None:
    sizes = {name: code_lines(MODULES[name]) for name in sorted(KINDS[kind])}
    total = sum(sizes.values())
    assert total <= CEILINGS[kind], sizes
    assert total > 0.9 * CEILINGS[kind], f"{kind}: {total} lines now; lower the ceiling"


@pytest.mark.parametrize("name", ALONE)
def test_size_of_what_stands_beside_the_verdict(name: str) -> None:
    assert code_lines(MODULES[name]) <= ALONE[name]


def test_lines_are_counted(tmp_path: Path) -> None:
    code = ["import os  # why", 'def f(x: str = """a', 'b""") -> str:', "    return x"]
    lines = ['"""Two', 'lines."""', "", code[0], "", *code[1:3], '    """One."""', "    # no", code[3]]
    text = "\n".join(lines)
    (tmp_path / "a.py").write_text(text)
    assert code_lines(tmp_path / "a.py") == len(code)
    assert imported(tmp_path / "a.py") == {"os"}
