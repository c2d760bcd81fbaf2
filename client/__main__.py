"""`python -m client` is `privity-client`."""

import sys

from client.cli import main

sys.exit(main())
