"""What a user did or gave that cannot work, in one line that says what to do."""

import click


class InputError(click.ClickException):
    """Bad input: the command line prints the message alone and exits with 2."""

    exit_code = 2
