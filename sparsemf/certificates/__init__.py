"""Certificates: sparsity, equivalence, their format, and the independent checker (import submodules)."""
