"""One run: a voice command recorded, transcribed, answered and spoken; and speculation in pauses."""
