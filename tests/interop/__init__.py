"""Tests against what others make: `nox -s interop` brings or builds it."""
