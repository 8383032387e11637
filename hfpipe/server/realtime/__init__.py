"""OpenAI's Realtime API: spoken conversations over a WebSocket."""
