"""Compare a run with earlier runs: baselines, regressions, change points, the knee."""
