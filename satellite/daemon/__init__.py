"""The daemon: built from its configuration, started, supervised, reloaded and stopped."""
