"""The rooms of the house: one conversation for all of them, and one room and device for each transport."""
