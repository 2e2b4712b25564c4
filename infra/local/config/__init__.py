"""The configuration of a stack: stack.yml, the secrets, and the accounts of the servers."""
