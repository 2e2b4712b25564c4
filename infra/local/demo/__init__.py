"""The demo of `up`, its sample files, and the upload of a directory."""
