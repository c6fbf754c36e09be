"""One picture a file: a view → inline SVG."""
