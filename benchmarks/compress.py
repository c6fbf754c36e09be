"""`sparsemf compress` on a real model: all-MiniLM-L6-v2 with narrower MLP blocks, and what its embeddings lose.

The six blocks (width 1,536) get S neurons each and are written back into the model's file; the sentences of
docs/data/sentences.txt are embedded by the original and by the copy (mean pooling, unit length), and their cosine says
what is left.  Per block the certified error of the copy stands beside the certified limit of any network of S neurons
with an output bias (the model has no tensor for an affine part).

- layernorm: inputs from N(β, diag γ²) of the block's own LayerNorm; needs nothing but the file;
- data: the block's inputs on another 300 sentences made of the same words, `--rho DATA.npz`; no limit is known there;
- magnitude: the S neurons with the largest ‖a_i‖‖w_i‖ kept as they are;
- magnitude + refit: the same neurons with the best output weights on the same data (ordinary least squares).

    python benchmarks/compress.py [--widths 1152 768 384 192] [--laws data layernorm] [--quick]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from equivalence import command
from models import model
from safetensors.torch import load_file, save_file

Array = np.ndarray[Any, np.dtype[np.float64]]

SENTENCES = Path(__file__).parents[1] / "docs" / "data" / "sentences.txt"
_ROWS = 4096


class Encoder:
    """The model with the tensors of a file, and the inputs of its MLP blocks."""

    def __init__(self, folder: Path, tensors: dict[str, torch.Tensor]) -> None:
        transformers: Any = import_module("transformers")  # type checkers take 20 s to find their way in it
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModel.from_pretrained(folder).eval()
        self.model.load_state_dict(tensors, strict=False)

    def embed(self, sentences: list[str]) -> Array:
        """Unit vectors, one a sentence."""
        found = []
        with torch.inference_mode():
            for start in range(0, len(sentences), 50):
                batch = self.tokenizer(sentences[start : start + 50], padding=True, return_tensors="pt")
                states = self.model(**batch).last_hidden_state
                mask = batch["attention_mask"][..., None]
                found.append(torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1))
        return torch.cat(found).double().numpy()

    def inputs(self, sentences: list[str]) -> list[Array]:
        """For each block the rows that go into its MLP."""
        kept: list[list[torch.Tensor]] = [[] for _ in self.model.encoder.layer]
        mask = torch.zeros(0)

        def keep(own: list[torch.Tensor]) -> Any:
            return lambda _module, given, _out: own.append(given[0][mask.bool()])

        hooks = [
            layer.intermediate.register_forward_hook(keep(own))
            for layer, own in zip(self.model.encoder.layer, kept, strict=True)
        ]
        with torch.inference_mode():
            for start in range(0, len(sentences), 50):
                batch = self.tokenizer(sentences[start : start + 50], padding=True, return_tensors="pt")
                mask = batch["attention_mask"]
                self.model(**batch)
        for hook in hooks:
            hook.remove()
        return [torch.cat(own).double().numpy()[:_ROWS] for own in kept]


def shuffled(sentences: list[str], seed: int = 0) -> list[str]:
    """Other sentences of the same words: beginnings and ends exchanged."""
    rng = np.random.default_rng(seed)
    halves = [(" ".join(w[: len(w) // 2]), " ".join(w[len(w) // 2 :])) for w in (s.split() for s in sentences)]
    order = rng.permutation(len(halves))
    return [f"{halves[i][0]} {halves[j][1]}" for i, j in enumerate(order)]


def magnitude(tensors: dict[str, torch.Tensor], size: int, rows: list[Array] | None) -> dict[str, torch.Tensor]:
    """The neurons of largest ‖a_i‖‖w_i‖ in every block, the others zero; refitted on ``rows`` where given."""
    found = dict(tensors)
    for k in range(6):
        base = f"encoder.layer.{k}."
        w, b = (tensors[f"{base}intermediate.dense.{name}"].double().numpy() for name in ("weight", "bias"))
        a, c = (tensors[f"{base}output.dense.{name}"].double().numpy() for name in ("weight", "bias"))
        kept = np.argsort(-np.linalg.norm(a, axis=0) * np.linalg.norm(w, axis=1))[:size]
        outer, offset = np.zeros_like(a), c
        outer[:, kept] = a[:, kept]
        if rows is not None:
            x = torch.from_numpy(rows[k])
            hidden = torch.nn.functional.gelu(x @ torch.from_numpy(w.T) + torch.from_numpy(b)).numpy()
            target = hidden @ a.T + c
            design = np.concatenate([hidden[:, kept], np.ones((hidden.shape[0], 1))], axis=1)
            solved = np.linalg.lstsq(design, target, rcond=None)[0]
            outer[:, kept], offset = solved[:-1].T, solved[-1]
        found[f"{base}output.dense.weight"] = torch.from_numpy(outer).float()
        found[f"{base}output.dense.bias"] = torch.from_numpy(offset).float()
    return found


def compressed(
    source: Path, folder: Path, size: int, rows: list[Array] | None
) -> tuple[Path, list[dict[str, Any]], float]:
    """The copy that `sparsemf compress` writes, its documents, and the seconds that took."""
    started = time.perf_counter()
    documents: list[dict[str, Any]] = []
    blocks = ["*"] if rows is None else [f"encoder.layer.{k}" for k in range(6)]
    current = source
    for k, block in enumerate(blocks):
        rho = "layernorm"
        if rows is not None:
            np.savez(folder / "rows.npz", X=rows[k])
            rho = str(folder / "rows.npz")
        out, text = folder / f"copy-{size}-{k}-{rows is None}.safetensors", folder / "text.json"
        command(
            "compress", current, "--width", str(size), "--block", block, "--activation", "gelu", "--rho", rho,
            "--pad", "-o", out, "--json", stdout=text,
        )  # fmt: skip
        document = json.loads(text.read_text(encoding="utf-8"))
        documents += document.get("results", [document])
        current = out
    return current, documents, time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[1152, 768, 384, 192])
    parser.add_argument("--laws", choices=("data", "layernorm"), nargs="+", default=["data", "layernorm"])
    parser.add_argument("--quick", action="store_true", help="width 384 only")
    options = parser.parse_args()
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    file = model()
    tensors = load_file(file)
    encoder = Encoder(file.parent, tensors)
    truth = encoder.embed(sentences)
    rows = encoder.inputs(shuffled(sentences))
    out = sys.stdout.write

    def show(name: str, found: dict[str, torch.Tensor], errors: str, seconds: float | None = None) -> None:
        encoder.model.load_state_dict(found, strict=False)
        cosine = np.sum(encoder.embed(sentences) * truth, axis=1)
        spent = "" if seconds is None else f"  {seconds:.0f} s"
        out(f"  {name:<20} cosine mean {cosine.mean():.4f}, least {cosine.min():.4f}{errors}{spent}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "model.safetensors"
        save_file(tensors, source)
        shutil.copy(file.with_name("config.json"), folder)
        for size in [384] if options.quick else options.widths:
            out(f"width {size}\n")
            for law in options.laws:
                given = rows if law == "data" else None
                copy, documents, seconds = compressed(source, folder, size, given)
                upper = [d["error"]["rel_upper"] for d in documents]
                text = f"; error/‖f‖ ≤ {min(upper):.3f} … {max(upper):.3f}"
                if given is None:
                    limits = [d["limit"]["rel_lower"] for d in documents]
                    text += f", none below {min(limits):.3f} … {max(limits):.3f}"
                show(f"compress, {law}", load_file(copy), text, seconds)
            show("magnitude", magnitude(tensors, size, None), "")
            show("magnitude + refit", magnitude(tensors, size, rows), "")


if __name__ == "__main__":
    main()
