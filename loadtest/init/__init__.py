"""Draft what a server of one's own needs: environment, variables, workflow."""
