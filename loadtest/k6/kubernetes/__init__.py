"""k6 runners in Kubernetes: creates a TestRun for the k6-operator and follows its pods."""
