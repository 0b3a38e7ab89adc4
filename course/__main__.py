"""`python -m course`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - where it is not installed, pip did not check
    sys.exit(f"The course needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

from course.cli import main

main()
