"""What finished runs say: tables, plots and a page of rollouts. Pure functions over run directories."""
