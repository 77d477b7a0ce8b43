#!/usr/bin/env python3
"""Segments photos by class names; see docs/demo.md."""

import sys

from escnet_d2.commands.segment import main

if __name__ == "__main__":
    sys.exit(main())
