"""The language model: weights, tokenizer, LoRA, quantization, gradient checkpointing, log-probs of completions."""
