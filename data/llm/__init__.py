"""Chat models: one protocol, one OpenAI-compatible client, and what keeps paid work from being lost."""
