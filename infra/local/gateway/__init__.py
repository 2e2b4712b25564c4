"""The replacement for OpenFaaS: the gateway, calls to the functions, the asynchronous queue, and the schedule."""
