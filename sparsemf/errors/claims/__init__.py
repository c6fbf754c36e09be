"""The four results of arXiv:2605.24710, in our reading of its abstract, as experiments: one module each."""
