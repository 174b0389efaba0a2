"""`python -m yolodeploy` is the command `yolodeploy`."""

import sys

from yolodeploy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
