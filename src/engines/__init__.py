"""Generation engines: prompts as token ids in, completions with their log-probs out."""
