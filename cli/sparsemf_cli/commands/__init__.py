"""One command a file; the module is imported only when its command runs (see ``sparsemf_cli.main``)."""
