"""The backends: S3 (objects) and PostgreSQL (connection, pool), with their settings and errors.

Import the modules, not the package: a function that does not use S3 then does not load its client.
"""
