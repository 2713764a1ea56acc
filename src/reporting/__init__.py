"""Reports on finished runs: tables, plots, a page of rollouts, model cards. Pure functions over run directories."""
