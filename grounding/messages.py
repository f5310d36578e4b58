"""Error messages as a single printable line that names the file they are about."""


def printable(text: object) -> str:
    """Text in which characters that UTF-8 cannot encode, as in the names of some files, are replaced by ``?``."""
    return str(text).encode("utf-8", "replace").decode()


def one_line(error: BaseException) -> str:
    """The message of an error, which may have several lines, as one line."""
    return " ".join(printable(error).split())


def describe_failure(path: object, error: BaseException) -> str:
    """An error as one line that names the photo it concerns.

    >>> describe_failure("dog.jpg", KeyError("boxes"))
    "dog.jpg: KeyError: 'boxes'"
    """
    message = one_line(error)
    if not isinstance(error, ValueError | OSError):  # its message was not written for users
        message = f"{type(error).__name__}: {message}"
    return message if printable(path) in message else f"{printable(path)}: {message}"
