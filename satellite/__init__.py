"""One daemon that gives a home a fast, private voice over the Wyoming protocol."""

__version__ = "0.1.0"
