"""What the chapters show: the paper's tables beside what was measured, plots, diagrams. Needs `ctnet[book]`."""
