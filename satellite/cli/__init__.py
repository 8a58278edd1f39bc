"""The command line, one file a command. What is large is imported where it is used."""
