"""Paths as people type them in a key's value: the one place that reads `~`."""

from pathlib import Path

from glam.errors import UserError


def typed_path(key: str, text: str) -> Path:
    """The path that `key=text` names, with `~` and `~name` read as home directories. Raises
    UserError where there is no such home, and for what cannot be a path."""
    if "\0" in text:
        raise UserError(f"{key}={text!r} cannot be a path; leave out the NUL")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # of Path, for a user that the system does not know
        raise UserError(
            f"{key}={text}: no home directory is known for {Path(text).parts[0]}; type the path in "
            f"full, or ./{text} for a folder of that name"
        ) from None
