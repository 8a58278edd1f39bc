"""Piper's networks (VITS) in parts, so that a sentence is heard before all of it is made."""
