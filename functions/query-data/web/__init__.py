"""The pages: what people get where programs get JSON, made of the same data.

Imported by the first request for a page only, as Jinja2 and the templates would cost a part of the start.
"""
