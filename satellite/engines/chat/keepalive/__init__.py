"""Keeps an Ollama model loaded and its prompt cache warm."""
