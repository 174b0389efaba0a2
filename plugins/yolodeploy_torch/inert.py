"""A reader of pickles that has nothing to call.

A pickle is a program for a small stack machine, and some of its instructions call any function that it
names. This machine builds plain values: every name is looked up in one table of our own functions,
which make inert things, and what the table lacks becomes an inert thing too and is reported.
Nothing is imported and no method of what was built is run. Instructions: `pickletools` of the
standard library.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

MAX_BYTES = 8 << 20
MAX_INSTRUCTIONS = 1_000_000
MAX_COPIES = 1 << 20  # values and characters; YOLOv8x with its optimizer copies 0.2 million
_CALL = 8  # what a call counts besides what it is given
_LONGEST_NAME = 255
_LARGEST = 1 << 63  # of an integer; so large a size or offset fits no file

Make = Callable[..., object]
_Scalar = str | int | float | bytes | None
_SIZED = (str, bytes, list, tuple, dict, set)
_MARK = object()
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # protocol 2 has Python 2's names


class Malformed(ValueError):
    """Why a pickle cannot be read, as the middle of a sentence."""


class Node:
    """Stand-in for an object: `kind` is the name of its class, `state` its attributes."""

    __slots__ = ("kind", "state")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state: dict[Any, Any] = {}


class Name(str):
    """A class or function that the pickle names, as "module.name"; it is never looked up."""

    __slots__ = ()


class Machine:
    """Runs one pickle.

    `names` gives what an allowed name makes, by "module.name"; `persistent` what a persistent id
    stands for. `unknown` are the other names that the pickle gave, also after an error.
    """

    def __init__(self, names: Mapping[str, Make], persistent: Callable[[object], object]) -> None:
        self._names, self._persistent = names, persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._copies = 0
        self.unknown: set[str] = set()

    def run(self, pickled: bytes) -> object:
        """Return the value; raises Malformed where the bytes are no pickle that can be read."""
        if len(pickled) > MAX_BYTES:
            raise Malformed(f"its pickle has more than {MAX_BYTES >> 20} MiB, which no model needs")
        try:
            return self._run(pickled)
        except Malformed:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise Malformed(f"{type(error).__name__} in its pickle") from error

    def _run(self, pickled: bytes) -> object:
        for count, (code, argument, _) in enumerate(pickletools.genops(pickled)):
            if code.name == "STOP":
                return self._pop()
            if count == MAX_INSTRUCTIONS:
                raise Malformed(f"its pickle has more than {MAX_INSTRUCTIONS:,} instructions")
            step = _STEPS.get(code.name)
            if step is None:
                raise Malformed(f"its pickle uses {code.name}, which no checkpoint does")
            step(self, argument)
        raise Malformed("its pickle has no end")

    def push(self, value: object) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def number(self, value: int) -> None:
        """Push an integer of at most 64 bits."""
        if abs(value) >= _LARGEST:
            raise Malformed("its pickle holds an integer of more than 64 bits")
        self.push(value)

    def name(self, argument: str) -> None:
        """Push a name given as "module name"; what is not allowed is noted."""
        self.push(self._named(*argument.split(" ", 1)))

    def name_from_stack(self, _: object) -> None:
        """Push the name whose module and name are on the stack."""
        name, module = self._pop(), self._pop()
        if type(module) is not str or type(name) is not str:
            raise Malformed("its pickle names something by no text")
        self.push(self._named(module, name))

    def _named(self, module: str, name: str) -> Name:
        found = Name(f"{_RENAMED.get(module, module)}.{name}")
        if len(found) > _LONGEST_NAME:
            raise Malformed(f"its pickle names something by {len(found):,} characters")
        self._count(len(found))
        if found not in self._names:
            self.unknown.add(str(found))
        return found

    def call(self, _: object) -> None:
        """Make what a name stands for, from a tuple of arguments: REDUCE and NEWOBJ."""
        arguments = self._pop()
        self._make(self._pop(), arguments)

    def call_with_keys(self, _: object) -> None:
        """The same with arguments by name, which only unknown things have."""
        self._pop()
        self.call(None)

    def call_marked(self, argument: str | None) -> None:
        """The same with arguments down to the mark: INST gives the name, OBJ has it on the stack."""
        items = self._since_mark()
        if argument is None:
            self._make(items.pop(0), tuple(items))
        else:
            self._make(self._named(*argument.split(" ", 1)), tuple(items))

    def _make(self, what: object, arguments: object) -> None:
        if not isinstance(arguments, tuple):
            raise Malformed("its pickle calls something without a tuple")
        self._count(_CALL, *arguments)
        if isinstance(what, Name) and what in self._names:
            self.push(self._names[what](*arguments))
        else:  # refused in the end; until then it may be built on
            self.push(Node(str(what) if isinstance(what, Name) else ""))

    def build(self, _: object) -> None:
        """Give the thing below it on the stack its attributes; plain containers have none."""
        state, thing = self._pop(), self._stack[-1]
        if isinstance(thing, Node) and isinstance(state, dict):
            self._count(0, state)
            thing.state.update(state)

    def _count(self, least: int, *values: object) -> None:
        """Bound what is copied: the memo gives a long value again in two bytes."""
        self._copies += least + sum(len(value) for value in values if isinstance(value, _SIZED))
        if self._copies > MAX_COPIES:
            raise Malformed(f"its pickle makes more than {MAX_COPIES:,} values out of few")

    def mark(self, _: object) -> None:
        """Remember the place on the stack."""
        self.push(_MARK)

    def fill_list(self, _: object) -> None:
        """Append what is above the mark to the list below it."""
        items = self._since_mark()
        self._of(list).extend(items)

    def fill_dict(self, _: object) -> None:
        """Set the pairs above the mark in the dict below it."""
        items = self._since_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(key, value)

    def fill_set(self, _: object) -> None:
        """Add what is above the mark to the set below it."""
        items = self._since_mark()
        self._of(set).update(map(key_of, items))

    def append(self, _: object) -> None:
        """Append one value."""
        value = self._pop()
        self._of(list).append(value)

    def set_item(self, _: object) -> None:
        """Set one pair."""
        value, key = self._pop(), self._pop()
        self._set(key, value)

    def tuple_of(self, size: int) -> None:
        """Join the topmost values."""
        values = [self._pop() for _ in range(size)]
        self.push(tuple(reversed(values)))

    def tuple_marked(self, _: object) -> None:
        """Join what is above the mark."""
        self.push(tuple(self._since_mark()))

    def drop(self, _: object) -> None:
        """Forget the topmost value."""
        self._pop()

    def put(self, index: int) -> None:
        """Remember the topmost value."""
        self._memo[index] = self._stack[-1]

    def memoize(self, _: object) -> None:
        """Remember the topmost value under the next number."""
        self._memo[len(self._memo)] = self._stack[-1]

    def get(self, index: int) -> None:
        """Push a remembered value."""
        self.push(self._memo[index])

    def persistent(self, _: object) -> None:
        """Push what a persistent id stands for."""
        self._count(_CALL)
        self.push(self._persistent(self._pop()))

    def _set(self, key: object, value: object) -> None:
        thing = self._stack[-1]
        if isinstance(thing, Node):  # of a class that is refused in the end
            return
        self._of(dict)[key_of(key)] = value

    def _of(self, kind: type[Any]) -> Any:
        thing = self._stack[-1]
        if type(thing) is Node:
            return kind()
        if type(thing) is not kind:
            raise Malformed(f"its pickle takes a {type(thing).__name__} for a {kind.__name__}")
        return thing

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise Malformed("its pickle takes a mark for a value")
        return value

    def _since_mark(self) -> list[Any]:
        start = len(self._stack) - 1
        while self._stack[start] is not _MARK:
            start -= 1
            if start < 0:
                raise Malformed("its pickle lacks a mark")
        items = self._stack[start + 1 :]
        del self._stack[start:]
        return items


def key_of(value: object) -> _Scalar:
    """A key of a dict or set: plain, because a tuple of tuples of ... takes forever to hash."""
    if type(value) in (str, int, float, bool, bytes, Name, type(None)):
        return value  # type: ignore[return-value]
    raise Malformed(f"its pickle has a {type(value).__name__} as a key")


def _fresh(make: Callable[[], object]) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine.push(make())


def _tuple(size: int) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine.tuple_of(size)


def _nothing(_machine: Machine, _argument: object) -> None:
    """The number of the protocol, and frames, say nothing about the content."""


_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING", "BINBYTES")
_INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1", "LONG4")

_STEPS: Mapping[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys((*_TEXTS, "SHORT_BINBYTES", "BINFLOAT"), Machine.push),
    **dict.fromkeys(_INTEGERS, Machine.number),
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), Machine.call),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), Machine.get),
    **dict.fromkeys(("INST", "OBJ"), Machine.call_marked),
    **{f"EMPTY_{kind.__name__.upper()}": _fresh(kind) for kind in (tuple, list, dict, set)},
    **{f"TUPLE{size}": _tuple(size) for size in (1, 2, 3)},
    "NONE": _fresh(lambda: None),
    "NEWTRUE": _fresh(lambda: True),
    "NEWFALSE": _fresh(lambda: False),
    "TUPLE": Machine.tuple_marked,
    "MARK": Machine.mark,
    "POP": Machine.drop,
    "APPEND": Machine.append,
    "APPENDS": Machine.fill_list,
    "SETITEM": Machine.set_item,
    "SETITEMS": Machine.fill_dict,
    "ADDITEMS": Machine.fill_set,
    "MEMOIZE": Machine.memoize,
    "GLOBAL": Machine.name,
    "STACK_GLOBAL": Machine.name_from_stack,
    "NEWOBJ_EX": Machine.call_with_keys,
    "BUILD": Machine.build,
    "BINPERSID": Machine.persistent,
}
