# sparsemf: `make demo` runs the main job end to end, `make test` runs every check.  Both set themselves up.
PYTHON ?= python3
TORCH ?= torch==2.13.0
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types docs bench wheel clean

# --no-compile: what is never imported need not be compiled, and that is most
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --no-compile "$(TORCH)"
	$(BIN)/python -m pip install -q --no-compile -e ".[dev]"
	touch $@

demo: $(STAMP)
	rm -rf demo && mkdir demo
	$(BIN)/sparsemf train --task planted-relu --width 1024 --steps 8000 -o demo/relu
	$(BIN)/sparsemf analyze demo/relu/measure.safetensors -o demo/relu.json --cert demo/relu/cert.json --html demo/relu.html
	$(BIN)/sparsemf verify demo/relu/cert.json
	$(BIN)/sparsemf train --task digits --width 512 --steps 6000 -o demo/digits
	$(BIN)/sparsemf analyze demo/digits/measure.safetensors --rel-eps 0.1 -o demo/digits.json --html demo/digits.html
	@echo "Open demo/relu.html and demo/digits.html."

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/pyright --threads 2

docs: $(STAMP)
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

# pyright on two threads beside the documentation first, then the tests on all cores
test: $(STAMP)
	+$(MAKE) -j 2 --output-sync=target lint types docs
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal  # one thread a worker

bench: $(STAMP)
	$(BIN)/python benchmarks/trainer.py --quick
	$(BIN)/python benchmarks/analysis.py --quick

wheel: $(STAMP)
	$(BIN)/python -m pip wheel -q --no-deps -w dist .

clean:
	rm -rf $(VENV) dist build demo docs/_build .pytest_cache .ruff_cache .import_linter_cache
