"""Processes and what they need: supervision, ports, logs, the state directory, and the functions' processes."""
