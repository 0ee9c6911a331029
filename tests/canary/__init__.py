"""What the canary test needs: secrets as they cross the wire, where they show up, who runs."""
