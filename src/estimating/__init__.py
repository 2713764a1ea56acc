"""What a job needs, before it runs: parameters, bytes, operations and time, counted from a model's configuration."""
