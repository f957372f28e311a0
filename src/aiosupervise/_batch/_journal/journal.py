"""`Journal`, which the user creates and passes to `map_all`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, final

from aiosupervise._policy.checks import inner_function, is_async_callable, kind_of, name_of, safe_repr

# The other modules are imported by the first Journal: SQLite, pickle and hashlib would account for a fifth of the
# library's import time.
if TYPE_CHECKING:
    from .session import Session
    from .values import Codec


@final
class Journal:
    """A file of results from which a run resumes after a crash: `map_all(func, inputs, journal="run.db")`.

    Each value that the function returns is stored before its outcome is delivered. When the run is repeated, the
    function is not called for inputs that have a stored result; the outcome of each is a `Success` with
    `replayed=True`. Jobs that failed or were pending run again, as do jobs that were running, or whose results were not
    yet committed, when the process died: jobs run at least once, not exactly once.

    An input is recognized by its key, the name of the run, and `version`, never by its position in the source or by the
    code of the function. One file can therefore serve several functions, one after another or at the same time. Runs
    that use the file at the same time must share one Journal.

    The file is an SQLite database with the view `journal`, which can be read while no run uses the file. A committed
    result survives a crash of the process, but not a power failure.

    Args:
        path: the file, which is created if it does not exist; its folder must exist. It must not be on a network file
            system. A lock on the file `<path>.lock` excludes other processes.
        key: a function that returns the key of an input as a str, such as `lambda doc: doc.id`. None for inputs that
            are their own key: str, int, float, bool, None, and lists, tuples and dicts of these; the keys of a dict
            must be str.
        version: a str that you change when stored results must no longer be used, for example the version of a prompt.
            Nothing is deleted: if you restore the previous version, its results are used again.
        codec: an object with the functions `dumps`, which encodes a value as str or bytes, and `loads`, which decodes
            it: `json`, `pickle` or your own. With pickle, reading a file executes code in it: use only files that you
            wrote.

    Attributes:
        path: the file, as an absolute path.

    Raises:
        TypeError, ValueError: if an argument is invalid.
    """

    __slots__ = ("_settings", "_writer", "path")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: Callable[[Any], str] | None = None,
        version: str = "",
        codec: Codec = json,
    ) -> None:
        self.path: str = _checked_path(path)
        _check_key(key)
        if not isinstance(version, str):
            raise TypeError(f"version must be a str; got {safe_repr(version)}")
        _check_codec(codec)
        from .session import Settings  # noqa: PLC0415 - see above
        from .writer import Writer  # noqa: PLC0415

        self._settings = Settings(self.path, key, version, codec)
        self._writer = Writer(self.path)

    def __repr__(self) -> str:
        return f"<Journal {self.path}>"


# These are functions and not methods, to keep them out of the public class.


def checked_journal(journal: object, func: object, name: str | None, inputs: Collection[object]) -> Journal | None:
    """Return the journal that the user has specified as a Journal or as a path; None for no journal.

    Args:
        journal: the argument of `map_all`.
        func: the function of the run.
        name: the `name` argument of the run.
        inputs: the inputs in a list or another collection; each must have a key.

    Raises:
        TypeError: for a journal of any other type, an input without a key, or a lambda in a run without a name.
        ValueError: for an invalid path.
    """
    if journal is None:
        return None
    if not isinstance(journal, Journal):
        if not isinstance(journal, (str, os.PathLike)):
            raise TypeError(f"journal must be a path, a Journal(...), or None for no journal; got {safe_repr(journal)}")
        journal = Journal(journal)
    if not name and getattr(inner_function(func), "__name__", None) == "<lambda>":
        raise TypeError(
            "a journal finds results by the name of the function, and a lambda has none: write "
            "map_all(func, inputs, journal=..., name='fetch')"
        )
    from .keys import check_keys  # noqa: PLC0415 - see above

    check_keys(inputs, journal._settings.key)  # noqa: SLF001 - see above
    return journal


def session_of(journal: Journal, name: str) -> Session:
    """Return the journal session of a run with this name."""
    from .session import Session  # noqa: PLC0415 - see above

    return Session(journal._writer, journal._settings, name)  # noqa: SLF001 - see above


def _checked_path(path: object) -> str:
    rule = "the path of a journal must be a str or a PathLike of str"
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"{rule}; got {kind_of(path)}")
    if not text or text.startswith((":memory:", "file:")) or "\0" in text:
        raise ValueError(f"{rule} that names a file on disk; got {safe_repr(text)}")
    return os.path.abspath(text)  # noqa: PTH100 - without resolving links


def _check_codec(codec: object) -> None:
    rule = "codec must have the functions dumps and loads, as json has"
    for name in ("dumps", "loads"):
        func = getattr(codec, name, None)
        if not callable(func):
            raise TypeError(f"{rule}; got {kind_of(codec)}")
        if is_async_callable(func):
            raise TypeError(f"{rule}; its function {name} is async: write a plain function")


def _check_key(key: object) -> None:
    rule = "key must be a function of an input that returns a str, or None for inputs that are their own key"
    if key is not None and not callable(key):
        raise TypeError(f"{rule}; got {kind_of(key)}")
    if is_async_callable(key):
        raise TypeError(f"{rule}; {name_of(key)} is async: write a plain function")
