"""The room of the host itself: its microphone and speaker, and the Wyoming satellite that Home Assistant may drive."""
