"""`python -m conceptseg`, which is also what `accelerate launch -m conceptseg train ...` starts."""

import sys

from conceptseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
