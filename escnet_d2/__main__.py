"""``python -m escnet_d2``, which is ``escnet-d2``."""

import sys

from escnet_d2.commands import main

if __name__ == "__main__":
    sys.exit(main())
