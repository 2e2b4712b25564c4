"""Web pages, made from the same data as JSON responses.

The first request for a page imports this package and loads the templates: other requests need neither.
"""
