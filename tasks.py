"""The collection of Invoke tasks: `inv --list` is its table of contents."""

from loadtest.tasks import namespace

__all__ = ["namespace"]
