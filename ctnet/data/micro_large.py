"""MicroSomething for pictures that are to be looked at: the same clips on four times as many pixels."""

from typing import Any

from ctnet.data.micro_datasets import MICRO_DATASETS, MicroSomething, MicroSplit


class MicroSomething64(MicroSomething):
    """The clips of MicroSomething, drawn at 64 x 64 unless another size is given."""

    def __init__(self, *args: Any, size: int = 64, **rest: Any) -> None:
        super().__init__(*args, size=size, **rest)

    @classmethod
    def split(cls, split: str, count: int | None = None, *, size: int = 64, **rest: Any) -> MicroSplit:
        """The definition of a split of MicroSomething, at this size."""
        return MicroSomething.split(split, count, size=size, **rest)


MICRO_DATASETS[MicroSomething64.__name__] = MicroSomething64
