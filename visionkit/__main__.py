"`python -m visionkit` is the command `visionkit`. By hand, for launchers that start modules."
import sys
from visionkit.cli import main

if __name__ == '__main__': sys.exit(main())
