"""Chat servers that behave as the real ones do, over real sockets: for the tests and for `satellite bench`."""
