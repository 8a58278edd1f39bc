"""Home Assistant, asked before the chat model for what the house can do, by its REST API."""
