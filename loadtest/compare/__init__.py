"""A run against earlier ones: baselines, regressions, change points, the knee."""
