"""`python3 infra/local up`: the command line, inside its own environment."""

import sys
from pathlib import Path

if __package__:
    from .cli import main

    sys.exit(main(sys.argv[1:]))
else:
    from environment import run

    run([Path(__file__).resolve().parent / "requirements.txt"], ["-P", "-m", "infra.local", *sys.argv[1:]])
