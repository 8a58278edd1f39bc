"""A soak: the daemon among hostile clients, dying children and full pipes, while somebody uses it as it is meant."""
