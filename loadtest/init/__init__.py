"""Draft what a server of your own needs: environment, variables, workflow."""
