"""What a house says most, understood by grammar before any model is asked: timers, the time, the date, stop, repeat."""
