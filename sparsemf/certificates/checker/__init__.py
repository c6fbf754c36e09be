"""The checker: confirms a certificate from raw arrays, trusting no solver and none of the prover's code.

Imports numpy and python-flint only.  Submodules: ``raw`` (reader, hashes), ``functions``, ``integrals``, ``bounds``,
``balls`` (ball arithmetic), ``check`` (the claims).
"""
