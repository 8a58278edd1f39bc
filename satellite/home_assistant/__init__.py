"""Home Assistant, asked before the chat model for what the house can do, by its REST API."""

from satellite.home_assistant.responder import HomeAssistantResponder

__all__ = ["HomeAssistantResponder"]
