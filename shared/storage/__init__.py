"""Where the roll is kept: objects (any S3) and records (PostgreSQL), with their settings and errors.

Import from the modules: a function that never touches S3 then never pays for loading its client.
"""
