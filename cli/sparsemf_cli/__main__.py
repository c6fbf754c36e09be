"""``python -m sparsemf_cli``."""

from sparsemf_cli.main import entry

entry()
