"""The timers of the house."""
