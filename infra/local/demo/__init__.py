"""What `up` does once everything runs: upload sample files if the bucket is empty, and call each function once."""
