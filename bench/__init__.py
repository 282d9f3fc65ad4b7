"""What kvflow costs, as ratios that hold on any machine: the two sides of each take turns within one run."""
