"""Applications of other frameworks, to be run by uvicorn with this package's WebSockets."""
