"""The rooms of the house: satellites that the daemon dials and holds conversations with."""
