"""The local sampler: continuous batching over any causal LM of transformers."""
