"""A document as the page shows it: typed fields, what the answer is, and how to say it."""
