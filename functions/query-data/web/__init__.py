"""Web pages, made from the same data as JSON responses.

Imported by the first request for a page, as loading Jinja2 and the templates would delay the start.
"""
