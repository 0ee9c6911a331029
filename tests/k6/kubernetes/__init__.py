"""Tests of runners in Kubernetes, with a loopback cluster and a stand-in for the operator."""
