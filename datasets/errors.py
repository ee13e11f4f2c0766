"""What a user did or gave that cannot work."""


class InputError(Exception):
    """Bad input; the message is one line that says what to do.

    The command line prints it alone and exits with 2.
    """
