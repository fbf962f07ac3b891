"""A random order of the numbers below `size` of which nothing is held in memory."""

from dataclasses import dataclass

import xxhash

_ROUNDS = 4  # a Feistel network of four is as good as random, with good rounds (Luby and Rackoff)


@dataclass(frozen=True)
class Permutation:
    """`permutation[i]` is the number at place `i` of the order that `key` names. A Feistel network
    permutes the numbers of an even count of bits; what falls outside of `size` goes through it
    again."""

    size: int
    key: str

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.size:
            raise IndexError(f"{index} is not below {self.size}")
        half = max(1, -(-(self.size - 1).bit_length() // 2))  # bits
        while (index := self._network(index, half)) >= self.size:
            pass
        return index

    def _network(self, number: int, half: int) -> int:
        mask = (1 << half) - 1
        left, right = number >> half, number & mask
        for turn in range(_ROUNDS):
            drawn = xxhash.xxh3_64_intdigest(f"{self.key}/{turn}/{right}".encode())
            left, right = right, left ^ (drawn & mask)
        return left << half | right
