"""The steps of each job in order: analyze, certify, verify (import the submodules)."""
