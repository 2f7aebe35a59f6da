"""What the classes of process_tests.py have in common: where they play, and with what."""

import unittest
from pathlib import Path

HALF_A_MINUTE = 30


class Case(unittest.TestCase):
    """Set once, by process_tests.py."""

    binary: Path
    folder: Path
    shim: "kill_world.Shim"
    mounts: bool
