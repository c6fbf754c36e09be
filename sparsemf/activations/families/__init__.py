"""One activation family a file; each registers its members on import."""
