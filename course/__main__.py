"""`python -m course`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - where it is not installed, pip did not check
    sys.exit(f"The course needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

try:
    from course.cli import main
except ModuleNotFoundError as error:
    sys.exit(f"{error}: this Python is not the course's. Try .venv/bin/python -m course")

main()
