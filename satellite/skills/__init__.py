"""What is answered without the chat model."""
