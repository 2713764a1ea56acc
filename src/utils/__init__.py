"""Files, signals, the environment, the console, profiling."""
