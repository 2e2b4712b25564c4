"""What `up` does once all is ready, except with --no-sample: fill an empty bucket, and invoke each function once."""
