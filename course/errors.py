"""The one exception that means "you can put this right, and here is how"."""


class CourseError(Exception):
    """Something outside the code is wrong; the message names it and says what to do.

    The command line shows the message alone, without a traceback.
    """
