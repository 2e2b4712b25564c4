"""What `up` does once everything runs: upload sample files if the bucket is empty, and invoke each function once."""
