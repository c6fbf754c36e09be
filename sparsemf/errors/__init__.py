"""The error-decomposition experiments: statistical, optimization, chaos, entropic and sparse-residual terms."""
