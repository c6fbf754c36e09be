"""The checker: confirms a certificate from raw arrays, trusting no solver and none of the prover's code.

Imports numpy and python-flint only.  Submodules, in the order in which they build on one another: ``arithmetic``
(float64 with a-priori errors, or balls), ``raw`` (reader, hashes), ``catalogue`` (activations as images of cores),
``laws`` (norms), ``expansion`` (f_A − f_B as one sum), ``evaluate``, ``hermite``, ``grouped``, ``series``,
``gated`` (bounds), ``document``, ``measure``, ``transport``, ``matching``, ``equivalence``, ``sparsity`` (the
claims), ``tree``, ``derivatives``, ``dual_boxes``, ``dual_cones``, ``optimality`` (programs over measures),
``depth_shape``, ``depth_moments``, ``depth_rank``, ``depth_joint``, ``depth_lines``, ``depth_cells``,
``depth_scales``, ``depth_theorems``, ``depth_orbit``, ``depth_polynomial``, ``depth_power_sums``, ``depth``
(identifiability), ``check``.
"""
