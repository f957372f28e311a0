"""Records: frozen classes with fields, quick to define and quick to make.

To a user and to a type checker, a record is a frozen dataclass with slots. `dataclass` itself takes about a millisecond
for such a class, and has taken half of the time to import the library. It also assigns the fields by
`object.__setattr__`, which looks up each name, and a call that is listened to makes two events or more. Of the methods
that `dataclass` would write for each class, a record gets only an `__init__`; it inherits the others, which go by
`__field_types__`: the annotations of all its fields, in order.
"""

from __future__ import annotations

from dataclasses import Field, FrozenInstanceError, make_dataclass
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, dataclass_transform


class RecordType(type):
    """The type of record classes, which turns the annotated names of a class into fields, after those of its bases."""

    __field_types__: dict[str, object]
    __field_defaults__: dict[str, object]

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> RecordType:
        """Make a class with a slot for each field, and with an `__init__` that takes the fields in order."""
        types: dict[str, object] = {}
        defaults: dict[str, object] = {}
        for base in bases:
            types |= getattr(base, "__field_types__", {})
            defaults |= getattr(base, "__field_defaults__", {})
        own = namespace.get("__annotations__", {})
        types |= own
        defaults |= {field: namespace.pop(field) for field in own if field in namespace}
        namespace |= {
            "__slots__": tuple(own),
            "__match_args__": tuple(types),
            "__field_types__": types,
            "__field_defaults__": defaults,
            "__dataclass_fields__": _DataclassFields(),
        }
        record = super().__new__(cls, name, bases, namespace)
        setattr(record, "__init__", _init_of(record))  # noqa: B010 - mypy lets no method be assigned
        return record


def _init_of(record: RecordType) -> Any:
    names, defaults = tuple(record.__field_types__), record.__field_defaults__
    # The setter of a slot passes by the `__setattr__` that freezes the record.
    scope: dict[str, Any] = {f"set_{name}": getattr(record, name).__set__ for name in names}
    scope["defaults"] = defaults
    arguments = ["self", *(f"{name}=defaults[{name!r}]" if name in defaults else name for name in names)]
    steps = [f"set_{name}(self, {name})" for name in names]
    if hasattr(record, "__post_init__"):
        steps.append("self.__post_init__()")
    exec(f"def __init__({', '.join(arguments)}): {'; '.join(steps) or 'pass'}", scope)  # noqa: S102 - as dataclass does
    init = scope["__init__"]
    init.__qualname__ = f"{record.__qualname__}.__init__"
    init.__annotations__ = record.__field_types__
    return init


class _DataclassFields:
    """The `__dataclass_fields__` of a record, by which `dataclasses` knows its own; made when it first asks."""

    def __get__(self, record: object, kind: RecordType) -> dict[str, Field[Any]]:
        twin = make_dataclass(kind.__name__, kind.__field_types__)
        fields: dict[str, Field[Any]] = vars(twin)["__dataclass_fields__"]
        setattr(kind, "__dataclass_fields__", fields)  # noqa: B010 - the type checkers know no such attribute
        return fields


@dataclass_transform(frozen_default=True)
class Record(metaclass=RecordType):
    """A frozen object with fields that compares, hashes, prints, copies and pickles by the values of its fields."""

    # The type checkers know by `dataclass_transform` that nothing can be assigned.
    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: object) -> None:
            raise FrozenInstanceError(f"cannot assign to {name!r}: {type(self).__name__} is frozen")

        def __delattr__(self, name: str) -> None:
            raise FrozenInstanceError(f"cannot delete {name!r}: {type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return _values(self) == _values(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(_values(self))

    @recursive_repr()
    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in type(self).__field_types__)
        return f"{type(self).__qualname__}({fields})"

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Copy and unpickle by making a new one, since the fields cannot be assigned."""
        return type(self), _values(self)


def _values(record: Any) -> tuple[object, ...]:
    return tuple([getattr(record, name) for name in type(record).__field_types__])
