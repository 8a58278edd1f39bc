"""Chat models: a small one on this host, those behind an API, and the choice between several."""
