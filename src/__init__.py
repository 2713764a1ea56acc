"""A reference laboratory for multi-round reasoning by reinforcement learning (MOTIF, arXiv 2507.02851)."""

import logging

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # when peft imports it, it asks for a kernel of no use here
