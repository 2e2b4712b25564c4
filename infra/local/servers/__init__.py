"""PostgreSQL and the S3 server, configured as in a deployment."""
