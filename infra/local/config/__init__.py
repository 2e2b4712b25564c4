"""What a stack is made of, before anything runs: stack.yml, secrets, and the accounts of the servers."""
