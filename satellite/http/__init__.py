"""The same conversation for programs and browsers: REST, server-sent events, WebSocket, OpenAI's API, dashboard."""
