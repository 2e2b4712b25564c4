"""Web pages, made from the same data as JSON responses.

The first request for a page imports this package, because loading Jinja2 and the templates would delay the start.
"""
