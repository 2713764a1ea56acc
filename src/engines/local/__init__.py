"""The local engine: continuous batching in this process, for any causal LM of transformers."""
