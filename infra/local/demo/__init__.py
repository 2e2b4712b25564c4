"""The demo that `up` runs, its sample files, and the upload of a directory."""
