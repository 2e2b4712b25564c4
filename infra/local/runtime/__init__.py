"""The processes of a stack: supervision, ports, logs, the state directory, and the functions."""
