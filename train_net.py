#!/usr/bin/env python3
"""Trains and evaluates open-vocabulary semantic segmentation: ``escnet-d2 train``."""

import sys

from escnet_d2.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
