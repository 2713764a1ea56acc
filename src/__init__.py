"""Multi-round reasoning trained by reinforcement learning: a reference codebase (MOTIF, arXiv 2507.02851)."""

import logging

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # importing peft makes it warn about an unused kernel
