"""The feed: a WebSocket that shows rows as they are, and then each change of them."""
