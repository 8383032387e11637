"""Serve a voice-qa pipeline over HTTP: OpenAI's API, and one request for a whole spoken turn."""
