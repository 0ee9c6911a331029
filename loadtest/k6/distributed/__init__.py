"""Several k6 as one: how they are run, and how their figures are merged."""
