"""A fleet of k6 on Kubernetes: what the k6-operator is asked for, and how it is followed."""
