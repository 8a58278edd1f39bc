"""One run: a voice command recorded, transcribed, answered and spoken; and the speculation that starts this early."""
