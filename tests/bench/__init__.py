"""Benches: `nox -s bench`."""
