"""Supervised fine-tuning: warm-up from worked solutions, and the demonstrations that pretrain the embedded model."""
