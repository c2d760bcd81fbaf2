"""`python -m server` is `privity-server`."""

import sys

from server.cli import main

sys.exit(main())
