"""Multi-round reasoning trained by reinforcement learning: a reference codebase (MOTIF, arXiv 2507.02851)."""

import logging
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # OpenMP's waiting threads would take the processor from others
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # importing peft makes it warn about an unused kernel
