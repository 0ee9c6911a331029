"""Tests of provisioning, against the reference target behind a gate and a loopback GitHub."""
