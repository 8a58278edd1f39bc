"""Checks of the machine, the daemon and what it talks with: what is wrong, and how to fix it."""
