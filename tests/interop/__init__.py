"""Tests against what runs in Node: `nox -s interop` brings it."""
