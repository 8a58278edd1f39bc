"""The settings: what each means, how the file is read, and which of them contradict each other."""
