"""Trained measures that ship with the package, and ``measures.toml``, which says how each was made."""
