"""Estimates of memory, FLOPs and time of a job, from the model's configuration alone, before weights load."""
