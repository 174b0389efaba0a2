"""Read a pickle without importing or running anything that it names.

A pickle is a program for a small stack machine, and some of its instructions call any function that it
names. This machine builds plain values: every name is looked up among our own functions, which make
plain values and stand-ins. A name that is not among them makes a stand-in too, and is
reported. Instructions: `pickletools` of the standard library.
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
_LARGEST = 1 << 63  # of an integer; no file has room for a larger size or offset

Factory = Callable[..., object]
_Scalar = str | int | float | bytes | None
_SIZED = (str, bytes, list, tuple, dict, set)
_MARK = object()
_LAYERS = ("torch.", "torchvision.", "ultralytics.", "timm.")
_LOOKUP = "builtins.getattr"
# Heads for other tasks kept `Detect.forward` as an attribute up to Ultralytics 8.1, which a pickle can only look up.
_KEPT = frozenset({"ultralytics.nn.modules.head.Detect", "ultralytics.nn.modules.Detect"})
_METHODS = frozenset({"__setstate__", "append", "extend", "add"})  # that readers look up on objects
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # protocol 2 has Python 2's names


class Malformed(ValueError):
    """A pickle that cannot be read; the message is the middle of a sentence that says why."""


class Node:
    """Stand-in for an object: `kind` is the name of its class, `state` its attributes."""

    __slots__ = ("kind", "state")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state: dict[Any, Any] = {}


class Name(str):
    """A class or function that the pickle names, as "module.name"; it is never looked up."""

    __slots__ = ()


class Unpickler:
    """Runs one pickle.

    `factory` gives what makes the things that an allowed name ("module.name") stands for, None for another name;
    `persistent` gives what a persistent id stands for. `unknown` are the other names in the pickle,
    `called` those of them that it calls, except to make an object without arguments, and to look up `Detect.forward`. Calls by a detour, of an
    object or an attribute, are in both, known or not. Both are filled even if reading fails.
    """

    def __init__(
        self, factory: Callable[[str], Factory | None], persistent: Callable[[object], object]
    ) -> None:
        self._factory, self._persistent = factory, persistent
        self._factories: dict[str, Factory | None] = {}
        self._stack: list[Any] = []
        self._copies = 0
        self.memo: dict[int, Any] = {}
        self.unknown: set[str] = set()
        self.called: set[str] = set()
        self._kept_forward = False

    def run(self, pickled: bytes) -> object:
        """Return the value; raises Malformed if the bytes are not a pickle that can be read."""
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
                if self._kept_forward and _LOOKUP not in self.called:
                    self.unknown.discard(_LOOKUP)
                return self.pop()
            if count == MAX_INSTRUCTIONS:
                raise Malformed(f"its pickle has more than {MAX_INSTRUCTIONS:,} instructions")
            instruction = _INSTRUCTIONS.get(code.name)
            if instruction is None:
                raise Malformed(f"its pickle uses {code.name}, which no checkpoint does")
            instruction(self, argument)
        raise Malformed("its pickle has no end")

    def push(self, value: object) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def pop(self) -> Any:
        """Take the topmost value off the stack."""
        value = self._stack.pop()
        if value is _MARK:
            raise Malformed("its pickle takes a mark for a value")
        return value

    def pop_last(self, count: int) -> list[Any]:
        """Take the topmost values off the stack, in the order in which they were pushed."""
        return [self.pop() for _ in range(count)][::-1]

    def pop_to_mark(self) -> list[Any]:
        """Take the values above the topmost mark off the stack, and the mark."""
        start = len(self._stack) - 1
        while self._stack[start] is not _MARK:
            start -= 1
            if start < 0:
                raise Malformed("its pickle lacks a mark")
        items = self._stack[start + 1 :]
        del self._stack[start:]
        return items

    def put(self, index: int) -> None:
        """Remember the topmost value in the memo."""
        self.memo[index] = self._stack[-1]

    def push_integer(self, value: int) -> None:
        """Push an integer of at most 64 bits."""
        if abs(value) >= _LARGEST:
            raise Malformed("its pickle holds an integer of more than 64 bits")
        self.push(value)

    def push_name(self, module: object, name: object) -> None:
        """Push the name of a class or function; note it if it is not allowed."""
        if type(module) is not str or type(name) is not str:
            raise Malformed("its pickle gives a name that is not text")
        found = Name(f"{_RENAMED.get(module, module)}.{name}")
        if len(found) > _LONGEST_NAME:
            raise Malformed(f"its pickle gives a name of {len(found):,} characters")
        self._count(len(found))
        if found not in self._factories:
            self._factories[found] = self._factory(found)
        if self._factories[found] is None:
            self.unknown.add(str(found))
        self.push(found)

    def push_persistent(self) -> None:
        """Replace a persistent id by what it stands for."""
        self._count(_CALL)
        self.push(self._persistent(self.pop()))

    def call(self, what: object, arguments: object, *, new: bool = False) -> None:
        """Push what a name makes of a tuple of arguments; `new` if that only makes an object of a class."""
        if not isinstance(arguments, tuple):
            raise Malformed("its pickle calls something without a tuple")
        self._count(_CALL, *arguments)
        factory = self._factories.get(what) if isinstance(what, Name) else None
        if factory:
            self.push(factory(*arguments))
        elif _is_kept_forward(what, arguments):
            self._kept_forward = True
            self.push(Node("function"))
        else:  # a layer that is not known, or the file is refused in the end
            if isinstance(what, Node) or (isinstance(what, Name) and (arguments or not new)):
                self._ran(what)
            self.push(Node(str(what) if isinstance(what, Name) else ""))

    def call_named(self, argument: str) -> None:
        """Call the name in the argument with the values above the mark."""
        arguments = tuple(self.pop_to_mark())
        self.push_name(*argument.split(" ", 1))
        self.call(self.pop(), arguments)

    def call_marked(self) -> None:
        """Call the first value above the mark with the others."""
        what, *arguments = self.pop_to_mark()
        self.call(what, tuple(arguments))

    def build(self) -> None:
        """Give a stand-in its attributes; plain containers have none.

        Notes what an ordinary reader would run for it: an attribute that hides a method which it calls
        later, or one that it sets on a class.
        """
        state, thing = self.pop(), self._stack[-1]
        if isinstance(thing, Name):
            self._ran(thing)
        attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
        for table, hiding in ((attributes, _METHODS.__contains__), (slots, _is_special)):
            self._count(0, table)
            for key, value in table.items() if isinstance(table, dict) else ():
                if hiding(key) and (table is slots or isinstance(value, Name | Node)):
                    self._ran(value)
        if isinstance(thing, Node) and isinstance(state, dict):
            thing.state.update(state)

    def fill(self, kind: type[Any], items: list[Any]) -> None:
        """Put items into the container on top of the stack: a list, a set, or keys and values of a dict."""
        thing = self.pop()  # raises for a mark
        self.push(thing)
        if (
            type(thing) is Node
        ):  # a class of containers of another program, which is refused in the end
            if "." not in thing.kind or thing.kind.startswith(_LAYERS):
                self._ran(thing)
            return
        if type(thing) is not kind:
            raise Malformed(f"its pickle takes a {type(thing).__name__} for a {kind.__name__}")
        if kind is list:
            thing.extend(items)
        elif kind is set:
            thing.update(map(key_of, items))
        else:
            thing.update(zip(map(key_of, items[::2]), items[1::2], strict=True))

    def _ran(self, what: object) -> None:
        """Note what an ordinary reader would call, known or not."""
        if isinstance(what, Node):
            name = what.kind if what.kind in self.called else f"{what.kind or 'object'}.__call__"
        else:
            name = str(what) if isinstance(what, Name) else "object.__setattr__"
        self.unknown.add(name)
        self.called.add(name)

    def _count(self, least: int, *values: object) -> None:
        """Bound what is copied: the memo repeats a long value in two bytes."""
        self._copies += least + sum(len(value) for value in values if isinstance(value, _SIZED))
        if self._copies > MAX_COPIES:
            raise Malformed(f"its pickle makes more than {MAX_COPIES:,} values out of few")


def _is_kept_forward(what: object, arguments: tuple[object, ...]) -> bool:
    """Whether a call only looks up how a known head computes; what is looked up must not be called in turn."""
    if not isinstance(what, Name) or what != _LOOKUP or len(arguments) != 2:
        return False
    owner, attribute = arguments
    return (
        isinstance(owner, Name)
        and owner in _KEPT
        and type(attribute) is str
        and attribute == "forward"
    )


def _is_special(key: object) -> bool:
    return isinstance(key, str) and key.startswith("__")


def key_of(value: object) -> _Scalar:
    """A key of a dict or set, which must be plain: a tuple of tuples of ... takes forever to hash."""
    if type(value) in (str, int, float, bool, bytes, Name, type(None)):
        return value  # type: ignore[return-value]
    raise Malformed(f"its pickle has a {type(value).__name__} as a key")


_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING", "BINBYTES")
_INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1", "LONG4")

# Instructions by name, applied to the machine and the instruction's argument.
_INSTRUCTIONS: Mapping[str, Callable[[Unpickler, Any], object]] = {
    **dict.fromkeys((*_TEXTS, "SHORT_BINBYTES", "BINFLOAT"), Unpickler.push),
    **dict.fromkeys(_INTEGERS, Unpickler.push_integer),
    **dict.fromkeys(("PROTO", "FRAME"), lambda _machine, _argument: None),
    "REDUCE": lambda machine, _: machine.call(*machine.pop_last(2)),
    "NEWOBJ": lambda machine, _: machine.call(*machine.pop_last(2), new=True),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), Unpickler.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, n: machine.push(machine.memo[n])),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "FROZENSET": lambda machine, _: machine.push(set(map(key_of, machine.pop_to_mark()))),
    "BYTEARRAY8": lambda machine, argument: machine.push(bytes(argument)),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop_last(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop_last(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop_last(3))),
    "MARK": lambda machine, _: machine.push(_MARK),
    "POP": lambda machine, _: machine.pop(),
    "APPEND": lambda machine, _: machine.fill(list, machine.pop_last(1)),
    "APPENDS": lambda machine, _: machine.fill(list, machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.fill(dict, machine.pop_last(2)),
    "SETITEMS": lambda machine, _: machine.fill(dict, machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.fill(set, machine.pop_to_mark()),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "GLOBAL": lambda machine, argument: machine.push_name(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.push_name(*machine.pop_last(2)),
    "INST": Unpickler.call_named,
    "OBJ": lambda machine, _: machine.call_marked(),
    "NEWOBJ_EX": lambda machine, _: machine.call(*machine.pop_last(3)[:2]),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.push_persistent(),
}
