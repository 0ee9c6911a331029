"""Servers that others wrote, each measured by the whole chain."""
