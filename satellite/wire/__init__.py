"""Wyoming on the wire: bounded framing, connections with timeouts, and announcing them on the network."""
