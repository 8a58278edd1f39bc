"""What hears, understands, answers and speaks: Protocols, and one package a kind."""
