"""Property tests draw the same cases on every run: a failure in one place is a failure everywhere."""

from __future__ import annotations

import os

from hypothesis import settings

# Triton decides when it is first imported whether its kernels are interpreted, which is how they are tested on a CPU
os.environ.setdefault("TRITON_INTERPRET", "1")

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
