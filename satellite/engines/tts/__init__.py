"""Text to speech: Piper, its networks run in parts so that a sentence is heard before all of it is made."""
