"""Tests of the fleet on Kubernetes, and the stand-ins that they run."""
