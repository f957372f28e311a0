"""Records: frozen classes with fields, which users can treat as the frozen dataclasses that they replace."""

import copy
import dataclasses
import inspect
import pickle
import pprint
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from aiosupervise import AttemptFailed, Backoff, Policy, RunResumed, RunStarted, Success, Tally
from aiosupervise._policy.record import keyword_record, mutable_record, quick_record, record


@record
class Point:
    """Two numbers."""

    x: int
    y: int = 0


@record
class Named(Point):
    """Two numbers and a name."""

    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError("name")


T = TypeVar("T")
ONE = AttemptFailed(1, "fetch", None, None, 1, ValueError("broken"), 0.5)


@pytest.mark.parametrize("name", ["x", "y", "z"])
def test_nothing_can_be_assigned_or_deleted(name: str) -> None:
    """Neither a field nor anything else: the error is that of a frozen dataclass, an AttributeError."""
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match=f"^cannot assign to '{name}': Point is frozen$"):
        setattr(point, name, 2)
    with pytest.raises(dataclasses.FrozenInstanceError, match=f"^cannot delete '{name}': Point is frozen$"):
        delattr(point, name)
    assert (point.x, point.y) == (1, 0)
    assert not hasattr(point, "__dict__")


def test_a_quick_record_is_frozen_for_type_checkers_only() -> None:
    """Assignments succeed at runtime; in return, an outcome of a job is made in half the time."""

    @quick_record
    class Plain:
        x: int

    plain: Any = Plain(1)
    plain.x = 2
    assert plain == Plain(2)
    assert not hasattr(plain, "__dict__")


def test_a_mutable_record_has_no_hash() -> None:
    """Its fields can be assigned, for type checkers too, and it is compared by them."""

    @mutable_record
    class Count:
        x: int = 0

    count = Count()
    count.x = 2
    assert count == Count(2)
    with pytest.raises(TypeError, match="unhashable type"):
        hash(count)


@keyword_record
class Setting:
    """Fields that are given by name."""

    size: int
    color: str = "red"


def test_a_keyword_record_takes_no_field_by_position() -> None:
    """Neither does a class pattern; apart from that it is a record, and is copied, pickled and replaced as one."""
    wrong: Any = Setting
    with pytest.raises(TypeError, match=r"Setting\.__init__\(\) takes 1 positional argument"):
        wrong(1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'shape'"):
        wrong(size=1, shape="round")
    assert Setting.__match_args__ == ()
    assert str(inspect.signature(Setting)) == "(*, size: int, color: str = 'red')"
    one = Setting(size=1)
    for twin in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301 - our own
        assert twin == one
        assert hash(twin) == hash(one)
    assert repr(dataclasses.replace(one, color="blue")) == "Setting(size=1, color='blue')"
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.size = 2  # type: ignore[misc]


def test_the_signature_is_known_before_the_first_instance() -> None:
    """The `__init__` of a record is written when it is first used, by an inspection too."""

    @record
    class Fresh:
        x: int
        y: int = 0

    assert str(inspect.signature(Fresh)) == "(x: int, y: int = 0)"
    assert inspect.isfunction(inspect.getattr_static(Fresh, "__init__"))


def test_a_record_has_the_fields_of_its_base() -> None:
    """They come first, with their defaults, also if there is another base, which is not a record."""

    @record
    class Base:
        x: int
        y: int = 0

    @record
    class Derived(Base, Generic[T]):
        z: str = "a"
        rest: tuple[T, ...] = ()

    signature = inspect.signature(Derived)
    assert list(signature.parameters) == ["x", "y", "z", "rest"]
    assert signature.parameters["x"].annotation is int
    assert Derived[int](1) == Derived(1, 0, "a", ())
    match Derived(1, 2, "b", (3,)):
        case Derived(x, y, z, rest):
            assert (x, y, z, rest) == (1, 2, "b", (3,))


def test_a_record_can_have_no_fields() -> None:
    """All instances of such a class are equal."""

    @record
    class Nothing:
        pass

    assert Nothing() == Nothing()
    assert repr(Nothing()) == f"{Nothing.__qualname__}()" != "Nothing()"


def test_a_record_is_the_class_that_was_written() -> None:
    """It keeps name, docstring and methods, and `dataclasses` knows it; as with slots, it has no weak references."""

    @record
    class Circle:
        """It is round."""

        radius: float

        def __post_init__(self) -> None:
            if self.radius < 0:
                raise ValueError("radius")

        def diameter(self) -> float:
            return 2 * self.radius

    assert Circle.__qualname__ == f"{test_a_record_is_the_class_that_was_written.__name__}.<locals>.Circle"
    assert (Circle.__module__, Circle.__doc__) == (__name__, "It is round.")
    assert Circle(1.5).diameter() == 3.0
    assert not hasattr(Circle, "__weakref__")
    with pytest.raises(ValueError, match="radius"):
        Circle(-1.0)
    assert dataclasses.is_dataclass(Circle)


def test_fields_are_taken_in_order_or_by_name() -> None:
    """Those of the base come first; defaults are for those that are left out, and anything else is a TypeError."""
    wrong: Any = Named
    assert Named(1, 2, "a") == Named(name="a", y=2, x=1)
    assert (Named(1).y, Named(1).name) == (0, "")
    for arguments in ((), (1, 2, "a", 4)):
        with pytest.raises(TypeError, match=r"Named\.__init__\(\)"):
            wrong(*arguments)
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        wrong(1, z=3)


def test_a_record_can_check_its_fields() -> None:
    """`__post_init__` runs when they are set."""
    wrong: Any = Named
    with pytest.raises(TypeError, match="name"):
        wrong(1, 2, 3)


def test_the_signature_shows_the_fields() -> None:
    """Help and documentation show names, types and defaults."""
    assert str(inspect.signature(Named)) == "(x: int, y: int = 0, name: str = '')"


def test_records_compare_and_hash_by_class_and_value() -> None:
    """Two classes with the same fields are never equal."""
    tally: Any = "counts"
    assert Point(1, 2) == Point(1, 2)
    assert hash(Point(1, 2)) == hash(Point(1, 2))
    assert hash(Point(1, 2)) != hash(Point(2, 1))
    assert Point(1, 2) != Point(1, 3)
    others: list[object] = [(1, 2), RunResumed(1, "pages", tally)]
    assert Point(1, 2) != others[0]
    assert RunStarted(1, "pages", tally) != others[1]
    assert len({Point(1), Point(1), Point(2)}) == 2


def test_a_record_prints_as_the_call_that_makes_it() -> None:
    """Its repr names the class and every field, and ends where a record contains itself; an error is its message."""
    cycle: list[object] = []
    point: Any = Point
    cycle.append(point(cycle))
    assert repr(Named(1, 2, "a")) == "Named(x=1, y=2, name='a')"
    assert repr(cycle[0]) == "Point(x=[...], y=0)"
    assert repr(ONE).endswith("attempt=1, error=<ValueError: broken>, wait=0.5, group=None)")


def test_a_record_can_hide_fields() -> None:
    """Their values may be secret; the attribute that names them is not a field."""

    @record
    class Login:
        name: str
        password: str

        __not_in_repr__: ClassVar[tuple[str, ...]] = ("password",)

    assert repr(Login("ann", "hunter2")).endswith("Login(name='ann')")
    assert [(field.name, field.repr) for field in dataclasses.fields(Login)] == [("name", True), ("password", False)]


def test_a_record_matches_by_position_and_by_name() -> None:
    """A class pattern takes the fields in order."""
    match ONE:
        case AttemptFailed(1, name, wait=wait):
            assert (name, wait) == ("fetch", 0.5)
        case _:
            pytest.fail("it should match")


def test_records_are_copied_and_pickled() -> None:
    """A copy is equal to the original; a generic one that was made with a type argument too."""
    for one in (Named(1, 2, "a"), Success[list[int]](0, [1], 1, 0.5), Backoff(cap=3.0)):
        for twin in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301 - our own
            assert twin == one
            assert type(twin) is type(one)


def test_the_functions_of_dataclasses_work() -> None:
    """`fields`, `asdict` and `replace` treat a record as a dataclass; its fields are made once."""
    assert dataclasses.is_dataclass(Point)
    assert [field.name for field in dataclasses.fields(Named)] == ["x", "y", "name"]
    assert [field.default for field in dataclasses.fields(Named)] == [dataclasses.MISSING, 0, ""]
    assert dataclasses.fields(Setting)[0].kw_only
    assert dataclasses.fields(Named)[0] is dataclasses.fields(Named)[0]
    assert dataclasses.asdict(Named(1, 2, "a")) == {"x": 1, "y": 2, "name": "a"}
    assert dataclasses.replace(Named(1, 2, "a"), y=3) == Named(1, 3, "a")
    assert dataclasses.replace(ONE, wait=None).wait is None
    policy: Any = Policy(retry_on=OSError)
    assert dataclasses.replace(policy, max_retries=1) == Policy(retry_on=OSError, max_retries=1)
    assert policy.__replace__(max_retries=1) == Policy(retry_on=OSError, max_retries=1)  # as `copy.replace` does
    assert Policy(retry_on=(), deadline=1).__replace__(retry_on=OSError) == Policy(retry_on=OSError, deadline=1)
    assert dataclasses.asdict(RunStarted(1, "pages", Tally(3, 1)))["tally"]["total"] == 3


def test_pprint_prints_a_record_by_its_repr() -> None:
    """It asks a dataclass for its parameters when the repr is longer than a line; hidden fields stay hidden."""
    outcome = Success(0, "a" * 80, 1, 0.5, input="secret")
    for one in (outcome, Tally(10**40, 10**40), Policy(retry_on=OSError)):
        assert pprint.pformat(one) == repr(one)
    assert [field.name for field in dataclasses.fields(outcome) if not field.repr] == ["input", "replayed"]


def test_a_dataclass_can_inherit_from_a_record() -> None:
    """It is a frozen one if the record is frozen; the fields of the record come first."""

    @record
    class Fresh:
        x: int
        y: int = 0

    @mutable_record
    class Mutable:
        x: int

    @dataclasses.dataclass(frozen=True)
    class Labeled(Fresh):
        label: str = ""

    assert Labeled(1, 2, "a") == Labeled(x=1, y=2, label="a")
    with pytest.raises(TypeError, match="cannot inherit non-frozen dataclass from a frozen one"):
        dataclasses.dataclass(type("Wrong", (Fresh,), {}))
    with pytest.raises(TypeError, match="cannot inherit frozen dataclass from a non-frozen one"):
        dataclasses.dataclass(frozen=True)(type("Wrong", (Mutable,), {}))


def test_the_init_of_a_record_belongs_to_its_module() -> None:
    """Tools that follow a function to its module find it, before the first instance too."""

    @record
    class Fresh:
        x: int

    assert Fresh.__init__.__module__ == Fresh.__module__ == __name__


def test_a_record_can_be_copied_with_changes() -> None:
    """`copy.replace`, which exists since Python 3.13, calls `__replace__`; the fields of the copy are checked."""
    named: Any = Named(1, 2, "left")
    assert named.__replace__(x=3, name="right") == Named(3, 2, "right")
    with pytest.raises(TypeError):
        named.__replace__(name=1)
