"""Addresses, listening sockets and the health of what is reached over them."""
