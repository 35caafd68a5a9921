"""``python -m qmp_sb3.cli``"""

import sys

from qmp_sb3.cli import main

sys.exit(main())
