"""What `up` shows on its first run: sample files, their upload, and one call of each function."""
