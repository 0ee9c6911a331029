"""A chain for searches, as for runs of k6."""

from tests.k6.conftest import chain

__all__ = ["chain"]
