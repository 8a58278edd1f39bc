"""What the daemon knows of itself: runs, metrics, status."""
