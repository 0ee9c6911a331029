"""The third stage: the k6 scenarios, from the plan to the rows."""
