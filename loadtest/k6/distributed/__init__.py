"""Many k6 as one: engines that run them, and the merging of what they measured."""
