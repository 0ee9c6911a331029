"""Tests against other people's software, which `nox -s interop` downloads or builds."""
