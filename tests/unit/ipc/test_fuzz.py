"""R-44: whatever bytes a session sends, decoders raise ProtocolBreach or nothing, and what they hold is bounded.

20 000 inputs by default; PROCESSION_SOAK makes it a million. Failures name the seed of their input.
"""

from __future__ import annotations

import collections
import datetime as dt
import os
import random
import struct
import tracemalloc
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.frames import FrameDecoder, chunks, encode
from procession.ipc.core.values import decode_value, encode_value

pytestmark = pytest.mark.guarantee("R-44")

FRAMES = 1_000_000 if os.environ.get("PROCESSION_SOAK") else 20_000
MESSAGE_BYTES_MAX = 4096

HONEST = [
    {"role": "user", "content": "text", "n": [1, 2.5, None, True]},
    {"items": ({1, 2}, frozenset({"a"}), b"x", bytearray(b"y"), 2**80, 1j, "\ud800")},
    {1: 2, (3, 4): collections.deque([1], 3), "c": collections.Counter("ab"), "o": collections.OrderedDict(a=1)},
    [dt.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1), dt.date(2024, 1, 1), dt.time(1)],
    [dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2), "CEST")), dt.timedelta(-1, 2, 3)],
    [Decimal("1.10"), uuid.UUID(int=7), Path("/a/b"), Path("\udcff"), {"\0t": 1}],
    "x" * 300,
]

TAGS = [f"\0{letter}" for letter in "tsfdOCqbiucDaTlnUp?"]
ODD = [
    None, True, 0, -1, 1, 2**31, 2**63, 2**64 - 1, 1e308, float("nan"), "", "\0", "x", "Europe/Berlin", "../etc",
    "America", "1E999999999", "1E-999999999", "NaN9", "sNaN", "-Infinity",
    "1_0", "\u0661", b"", b"\x80", b"\xff" * 16, b"\xed\xa0\x80",
    [], [1], [2024, 2, 30], [9999, 12, 31, 23, 59, 59, 999999, 1],
    [1, 1, 1, 0, 0, 0, 0, 0, 86399999999, None, None],
    [1, 1, 1, 0, 0, 0, 0, 1, None, None, "Europe/Berlin"], [0, 0, 0, 0, 0, -1, "n" * 65, None],
    [999999999, 86399, 999999],
    [1.0, 2.0], [1.0, 2], [[], 1], [{}, 1], [1, 1, 1, 1], {}, {"a": 1}, [-1], [0, 1], [2**40],
]  # fmt: skip


def random_value(rng: random.Random, depth: int = 0) -> object:
    """Return something that is nearly a value of the table."""
    if depth > 4 or rng.random() < 0.4:
        return rng.choice(ODD)
    kind = rng.random()
    if kind < 0.6:
        return {rng.choice(TAGS): random_value(rng, depth + 1)}
    if kind < 0.8:
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    return {rng.choice(["a", "b", *TAGS]): random_value(rng, depth + 1) for _ in range(rng.randrange(3))}


def mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0:
                changed[at:at] = rng.randbytes(rng.randrange(1, 5))
            case 1:
                del changed[at : at + rng.randrange(1, 5)]
            case 2:
                changed[at : at + 1] = rng.choice(
                    [b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x81\xa2\x00t", b"\xdf", b"\x91"]
                )
            case _ if changed:
                changed[at % len(changed)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def bodies(seed: int, number: int) -> Iterator[tuple[int, bytes]]:
    honest = [encode_value(value) for value in HONEST]
    for turn in range(number):
        rng = random.Random(seed + turn)
        match turn % 3:
            case 0:
                yield seed + turn, rng.randbytes(rng.randrange(64))
            case 1:
                yield seed + turn, mutated(rng, rng.choice(honest))
            case _:
                yield seed + turn, msgspec.msgpack.encode(random_value(rng))


def test_hostile_bodies_give_a_value_or_a_breach():
    breaches = values = 0
    for seed, body in bodies(0, FRAMES):
        try:
            decode_value(body)
            values += 1
        except ProtocolBreach as breach:
            breaches += bool(breach.reason)
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {body!r}") from error
    assert breaches > FRAMES / 10
    assert values > FRAMES / 100


def streams(number: int) -> Iterator[tuple[int, bytes]]:
    for seed in range(number):
        rng = random.Random(seed)
        payload = rng.randbytes(rng.randrange(300))
        match seed % 4:
            case 0:
                yield seed, rng.randbytes(rng.randrange(40))
            case 1:
                yield seed, struct.pack("<I", rng.getrandbits(32)) + payload
            case 2:
                yield seed, mutated(rng, encode(payload, control=rng.random() < 0.5))
            case _:
                yield seed, mutated(rng, b"".join(chunks(payload, rng.randrange(1, 300))))


def test_hostile_streams_give_messages_or_a_breach_and_hold_little():
    decoder = FrameDecoder(MESSAGE_BYTES_MAX)
    breaches = 0
    tracemalloc.start()
    try:
        for seed, stream in streams(FRAMES):
            rng = random.Random(-seed)
            at = 0
            try:
                while at < len(stream):
                    size = rng.randrange(1, 200)
                    for _, message in decoder.feed(stream[at : at + size]):
                        assert len(message) <= 256 * 1024
                    at += size
                # A data message at its limit and one control frame at its own.
                assert decoder.pending_bytes <= MESSAGE_BYTES_MAX + 256 * 1024 + 3
            except ProtocolBreach:
                breaches += 1
                with pytest.raises(ProtocolBreach):
                    decoder.feed(encode(b"again"))
                assert decoder.pending_bytes == 0
                decoder = FrameDecoder(MESSAGE_BYTES_MAX)
            except Exception as error:
                raise AssertionError(f"seed {seed}: {stream!r}") from error
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert breaches > FRAMES / 10
    assert peak < 4 * 1024 * 1024


def tag(letter: str, payload: object) -> dict[str, object]:
    return {f"\0{letter}": payload}


PRIME = 2**61 - 1
BOMBS = {
    "ten thousand keys with one hash": tag(
        "s", [tag("i", (index * PRIME).to_bytes(20, "big")) for index in range(10_000)]
    ),
    "a dict of them": tag(
        "d", [part for index in range(10_000) for part in (tag("i", (index * PRIME).to_bytes(20, "big")), 0)]
    ),
    "uuids with one hash": tag("s", [tag("U", (index * PRIME).to_bytes(16, "big")) for index in range(10_000)]),
    "a set of lists": tag("s", [[]]),
    "a set of sets": tag("s", [tag("s", [])]),
    "a key that is a dict": tag("d", [{}, 1]),
    "a key without a value": tag("d", [1]),
    "an exponent": tag("n", "1E999999999999999999"),
    "a small exponent": tag("n", "1E-999999999"),
    "a zero with an exponent": tag("n", "0E999999999"),
    "many digits": tag("n", "9" * 10_001),
    "a large integer": tag("i", b"\x7f" * 65_537),
    "no integer": tag("i", b""),
    "an integer as text": tag("i", "1" * 5000),
    "a path with nul": tag("p", "a\0b"),
    "a path of a list": tag("p", ["a"]),
    "a short uuid": tag("U", b"123"),
    "a uuid as text": tag("U", "00000000-0000-0000-0000-000000000000"),
    "february 30": tag("a", [2024, 2, 30]),
    "year 0": tag("D", [0, 1, 1, 0, 0, 0, 0, 0]),
    "fold 2": tag("D", [1, 1, 1, 0, 0, 0, 0, 2]),
    "a float year": tag("a", [2024.0, 1, 1]),
    "a bool year": tag("a", [True, 1, 1]),
    "an offset of a day": tag("T", [0, 0, 0, 0, 0, 86_400_000_000, None, None]),
    "a zone out of the folder": tag("T", [0, 0, 0, 0, 0, 0, None, "../../etc/passwd"]),
    "a zone that is a path": tag("T", [0, 0, 0, 0, 0, 0, None, "/etc/passwd"]),
    "days without end": tag("l", [10**15, 0, 0]),
    "text that is no utf-8": tag("u", b"\xff"),
    "text that is nothing": b"\xa1\xff",
    "an unknown tag": tag("?", 1),
    "a tag in capitals": tag("S", []),
    "a deque over its length": tag("q", [0, 1]),
    "a deque without its length": tag("q", []),
    "a tuple of a dict": tag("t", {}),
    "lists too deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],
    "a pickle": b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_each_bomb_is_a_breach(name):
    bomb = BOMBS[name]
    wire = bomb if isinstance(bomb, bytes) else msgspec.msgpack.encode(bomb)
    with pytest.raises(ProtocolBreach):
        decode_value(wire, nodes_max=1_000_000)


def test_objects_are_bounded_before_they_are_made():
    wire = msgspec.msgpack.encode([{}] * 90_000)
    peaks: list[int] = []
    while len(peaks) < 5 and (not peaks or min(peaks) >= 64 * 1024):  # a thread of the runner's may allocate meanwhile
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolBreach, match="memory"):
                decode_value(wire, nodes_max=1_000_000, objects_bytes_max=8 << 20)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert min(peaks) < 64 * 1024


def test_tuples_within_tuples_are_counted_by_level():
    value: object = tag("t", [])
    for _ in range(32):
        value = tag("t", [value])
    with pytest.raises(ProtocolBreach, match="deep"):
        decode_value(msgspec.msgpack.encode(value))
