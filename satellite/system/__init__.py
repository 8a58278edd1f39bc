"""What the daemon asks of the operating system: its own process, child processes, the log, the GPU driver."""
