"""The one audio format inside the daemon, and every conversion to and from it."""
