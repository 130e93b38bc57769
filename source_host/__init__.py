"""The host that runs guests and migrates them away."""
