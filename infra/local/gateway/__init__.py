"""OpenFaaS's part: the gateway, calls to the functions, the queue of asynchronous requests and the schedule."""
