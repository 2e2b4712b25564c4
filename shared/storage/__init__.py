"""The backends: S3 (objects) and PostgreSQL (connection, pool), with their settings and errors.

This package imports none of its modules: a process that uses only PostgreSQL does not load the S3 client.
"""
