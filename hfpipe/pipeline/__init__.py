"""What travels to the Hub, flat: the voice-qa pipeline, its engine and its parts."""
