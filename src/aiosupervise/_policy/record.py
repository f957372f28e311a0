"""Records: classes with fields, fast to define and to instantiate.

To a user and to a type checker, a record is a dataclass with slots, usually a frozen one. `dataclass` itself takes
about a millisecond for each such class, which added up to half of the library's import time. The `__init__` that it
generates is also slow, because it assigns each field with `object.__setattr__`. This matters because a call with a
listener creates at least two events. Of the methods that `dataclass` would generate for each class, a record has only
an `__init__` of its own, compiled on first use. All records share the other methods, which use `__field_types__`, the
annotations of all fields in order.

Records have no metaclass, because since Python 3.13 a metaclass makes instantiation slower.
"""

from __future__ import annotations

import inspect
from reprlib import recursive_repr
from typing import Any, TypeVar, cast, dataclass_transform

from .checks import error_text

C = TypeVar("C")
R = TypeVar("R")


@dataclass_transform(frozen_default=True)
def record(cls: type[C]) -> type[C]:
    """Turn a class into a record, whose fields are those of its bases, followed by its own annotated names.

    Records are compared, hashed, printed, copied and pickled by the values of their fields, which cannot be assigned.
    To protect secrets, the repr shows an error by its message, and omits the fields named in `__not_in_repr__`.
    """
    return _remade(cls, _METHODS | _FROZEN)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def keyword_record(cls: type[C]) -> type[C]:
    """Turn a class into a record whose fields are keyword-only."""
    return _remade(cls, _METHODS | _FROZEN | {"__reduce__": _reduce_by_name, "__match_args__": ()})


@dataclass_transform(frozen_default=True)
def quick_record(cls: type[C]) -> type[C]:
    """Turn a class into a record that is frozen only for type checkers.

    A frozen record takes about 0.1 us longer per field to create, which would slow down every job of a run.
    """
    return _remade(cls, _METHODS)


@dataclass_transform()
def mutable_record(cls: type[C]) -> type[C]:
    """Turn a class into a record whose fields can be assigned, and which therefore cannot be hashed."""
    return _remade(cls, _METHODS | {"__hash__": None})


def field_names(cls: Any) -> tuple[str, ...]:
    """Return the names of the fields of a record, in order."""
    return tuple(cls.__field_types__)


def replaced(record: R, changes: dict[str, Any]) -> R:
    """Return a copy of a record with other values for these fields."""
    return type(record)(**(_items(record) | changes))


def _remade(cls: type[C], methods: dict[str, Any]) -> type[C]:
    """Create the class again, because slots cannot be added to an existing one."""
    own = {name: kind for name, kind in inspect.get_annotations(cls).items() if name != "__not_in_repr__"}
    types: dict[str, object] = {}
    defaults: dict[str, object] = {}
    for base in cls.__bases__:
        types |= getattr(base, "__field_types__", {})
        defaults |= getattr(base, "__field_defaults__", {})
    types |= own
    namespace = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    defaults |= {field: namespace.pop(field) for field in own if field in namespace}
    namespace |= {"__slots__": tuple(own), "__match_args__": tuple(types), "__qualname__": cls.__qualname__}
    namespace |= {"__field_types__": types, "__field_defaults__": defaults}
    namespace |= {name: _DataclassAttribute(name) for name in _DATACLASS_ATTRIBUTES}
    namespace |= {name: method for name, method in methods.items() if name not in vars(cls)}
    made = type(cls.__name__, cls.__bases__, namespace)
    setattr(made, "__init__", _Init(made))  # noqa: B010 - mypy rejects assignment to a method
    return cast("type[C]", made)


class _Init:
    """A placeholder for the `__init__` of a record: the first access replaces it with a generated function.

    Most programs use few of the records, and compiling the function takes half of the time to define a record.
    """

    __slots__ = ("_cls",)

    def __init__(self, cls: Any) -> None:
        self._cls = cls

    def __get__(self, instance: object, _: object = None) -> Any:
        self._cls.__init__ = init = _init_of(self._cls)
        return init if instance is None else init.__get__(instance)


def _init_of(cls: Any) -> Any:
    names, defaults = tuple(cls.__field_types__), cls.__field_defaults__
    is_frozen = cls.__setattr__ is _refuse_to_assign
    scope: dict[str, Any] = {"defaults": defaults}
    steps = [f"self.{name} = {name}" for name in names]
    if is_frozen:
        # The setter of a slot bypasses the `__setattr__` that freezes the record.
        scope |= {f"set_{name}": getattr(cls, name).__set__ for name in names}
        steps = [f"set_{name}(self, {name})" for name in names]
    if hasattr(cls, "__post_init__"):
        steps.append("self.__post_init__()")
    # If `__match_args__` is empty, the fields are keyword-only.
    first = ["self"] if cls.__match_args__ == names else ["self", "*"]
    arguments = [*first, *(f"{name}=defaults[{name!r}]" if name in defaults else name for name in names)]
    exec(f"def __init__({', '.join(arguments)}): {'; '.join(steps) or 'pass'}", scope)  # noqa: S102 - as dataclass does
    init = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__module__ = cls.__module__
    init.__annotations__ = cls.__field_types__
    return init


class _DataclassAttribute:
    """One of the attributes by which other code recognizes a dataclass; the first access to one of them creates all.

    `dataclasses` reads the fields, and `pprint` the parameters.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, cls: Any) -> Any:
        # `dataclasses` is imported only when the fields are inspected, or when code tries to assign a frozen field.
        import dataclasses  # noqa: PLC0415

        hidden = getattr(cls, "__not_in_repr__", ())
        specs = []
        for name, kind in cls.__field_types__.items():
            default = cls.__field_defaults__.get(name, dataclasses.MISSING)
            specs.append((name, kind, dataclasses.field(default=default, repr=name not in hidden)))
        is_frozen = cls.__setattr__ is _refuse_to_assign
        twin = dataclasses.make_dataclass(cls.__name__, specs, kw_only=not cls.__match_args__, frozen=is_frozen)
        for name in _DATACLASS_ATTRIBUTES:
            setattr(cls, name, vars(twin)[name])
        return vars(twin)[self._name]


_DATACLASS_ATTRIBUTES = ("__dataclass_fields__", "__dataclass_params__")


# The methods that records share.


def _values(self: Any) -> tuple[object, ...]:
    return tuple([getattr(self, name) for name in type(self).__field_types__])


def _items(self: Any) -> dict[str, object]:
    return {name: getattr(self, name) for name in type(self).__field_types__}


def _replace(self: R, /, **changes: Any) -> R:
    # Called by `copy.replace`, which exists since Python 3.13.
    return replaced(self, changes)


def _is_equal(self: object, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: object) -> int:
    return hash(_values(self))


@recursive_repr()
def _repr(self: Any) -> str:
    hidden = getattr(type(self), "__not_in_repr__", ())
    shown = [name for name in type(self).__field_types__ if name not in hidden]
    fields = ", ".join(f"{name}={_field_text(getattr(self, name))}" for name in shown)
    return f"{type(self).__qualname__}({fields})"


def _field_text(value: Any) -> str:
    # The value is checked by its type, because `isinstance` would read an error's `__class__`.
    return f"<{error_text(value)}>" if issubclass(type(value), BaseException) else repr(value)


def _reduce(self: object) -> tuple[type, tuple[object, ...]]:
    # Copying and unpickling create a new record, because the fields of a frozen record cannot be assigned.
    return type(self), _values(self)


def _reduce_by_name(self: object) -> tuple[Any, ...]:
    return _made_by_name, (type(self), _items(self))


def _made_by_name(cls: type[R], fields: dict[str, object]) -> R:
    return cls(**fields)


def _refuse_to_assign(self: object, name: str, _: object) -> None:
    from dataclasses import FrozenInstanceError  # noqa: PLC0415 - as above

    raise FrozenInstanceError(f"cannot assign to {name!r}: {type(self).__name__} is frozen")


def _refuse_to_delete(self: object, name: str) -> None:
    from dataclasses import FrozenInstanceError  # noqa: PLC0415 - as above

    raise FrozenInstanceError(f"cannot delete {name!r}: {type(self).__name__} is frozen")


_METHODS = {
    "__eq__": _is_equal,
    "__hash__": _hash,
    "__repr__": _repr,
    "__reduce__": _reduce,
    "__replace__": _replace,
}
_FROZEN = {"__setattr__": _refuse_to_assign, "__delattr__": _refuse_to_delete}
