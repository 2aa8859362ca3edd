"""What may travel between hospital and server, and how many bytes it takes."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pflbench.errors import ReadOnlyError, TrialFailed

# A tree of tensors, numbers, strings and None, with strings as keys.
Message = Mapping[str, Any]
Inbox = Mapping[str, Message]  # client -> what it sent
Outbox = Mapping[str, Message]  # client -> what it is sent

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.int64,
        torch.float32,
        torch.int32,
        torch.float16,
        torch.bfloat16,
        torch.int16,
        torch.uint8,
        torch.int8,
        torch.bool,
    )
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ALIGN = 8
_PLAIN = (str, int, float, bool, type(None))


def tensors(message: Message, path: str = "message") -> Iterator[tuple[str, Tensor]]:
    """Yield (path, tensor) for every tensor of the tree. Raises TrialFailed where something may not travel."""
    for key, value in message.items():
        here = f"{path}[{key!r}]"
        if not isinstance(key, str):
            raise TrialFailed(f"{here}: keys of a message are strings, not {type(key).__name__}.")
        if isinstance(value, Tensor):
            _check_tensor(value, path, key)
            yield here, value
        elif isinstance(value, Mapping):
            yield from tensors(value, here)
        elif not isinstance(value, _PLAIN):
            raise TrialFailed(
                f"{here} is a {type(value).__name__}; a message may hold only tensors, numbers, strings, None, "
                "and mappings of these."
            )


def values(message: Message) -> list[Tensor]:
    """Return the tensors of a tree that has been checked, in its order; without paths, which cost most of the time."""
    found: list[Tensor] = []
    for value in message.values():
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, Mapping):
            found += values(value)
    return found


class ReadOnly:
    """Notices where messages that were handed over without a copy are written to, or become part of something."""

    def __init__(self, **messages: Message) -> None:
        self._messages = messages
        self._versions = self._current()

    def _current(self) -> list[int]:
        return [tensor._version for message in self._messages.values() for tensor in values(message)]

    def verify(self, owned: Callable[[], Iterable[Tensor]] = tuple) -> None:
        """Raise ReadOnlyError naming a tensor that has changed since, or shares memory with an owned one."""
        if not self._versions:
            return
        sent = [tensor for message in self._messages.values() for tensor in values(message)]
        addresses = {tensor.untyped_storage().data_ptr() for tensor in owned()}
        for tensor, version in zip(sent, self._versions, strict=True):
            if tensor._version != version:
                raise ReadOnlyError(f"{self._path(tensor)} was written to; what was sent is read-only: clone it first.")
            if tensor.numel() and tensor.untyped_storage().data_ptr() in addresses:
                raise ReadOnlyError(
                    f"{self._path(tensor)} became part of the model; use load(model, ...), which copies."
                )

    def _path(self, wanted: Tensor) -> str:
        found = (path for label, m in self._messages.items() for path, tensor in tensors(m, label) if tensor is wanted)
        return next(found)


def check(message: Message, path: str = "message") -> None:
    """Raise TrialFailed, naming the place, where the tree holds what may not travel or be kept."""
    for _ in tensors(message, path):
        pass


def _check_tensor(tensor: Tensor, path: str, key: str) -> None:
    if tensor.dtype not in _NAMES or tensor.layout is not torch.strided:
        raise TrialFailed(
            f"{path}[{key!r}] is a {tensor.layout} tensor of {tensor.dtype}; dense real tensors of "
            f"{', '.join(_DTYPES)} travel."
        )


def encode(message: Message) -> bytes:
    """Return the bytes that travel: length of the header, a JSON header, and the raw tensors (booleans as bits).

    An empty message is not sent: it has no bytes.
    """
    if not message:
        return b""
    header, size = _header(message)
    parts: list[bytes | memoryview] = [struct.pack("<Q", len(header)), header]
    parts += [_raw(tensor) for tensor in sorted_values(message)]
    encoded = b"".join(parts)
    assert len(encoded) == size
    return encoded


def encoded_size(message: Message) -> int:
    """Return ``len(encode(message))`` without encoding."""
    return _header(message)[1] if message else 0


def decode(encoded: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Return the message; its tensors are views of ``encoded``, which must be writable to be written to."""
    if not len(encoded):
        return {}
    view = memoryview(encoded)
    (length,) = struct.unpack_from("<Q", view)
    tree = json.loads(bytes(view[8 : 8 + length]))
    slots: list[tuple[dict[str, Any], str, torch.dtype, list[int]]] = []
    message = _with_slots(tree, slots)
    offset = 8 + length
    for parent, key, dtype, shape in sorted(slots, key=lambda slot: -slot[2].itemsize):  # as sorted_values
        parent[key], offset = _tensor(view, offset, dtype, shape)
    return message


def sorted_values(message: Message) -> list[Tensor]:
    """Return the tensors in the order they are written: widest type first, so that each lies aligned."""
    return sorted(values(message), key=lambda tensor: -tensor.dtype.itemsize)


def copied(message: Message, into: Message | None = None) -> dict[str, Any]:
    """Return a deep copy whose tensors share no memory with the original.

    Memory of ``into``, an earlier copy that nobody reads any more, is used again where shapes agree: fresh
    pages cost more than the copy itself.
    """
    result: dict[str, Any] = {}
    again: list[tuple[Tensor, Tensor]] = []
    for key, value in message.items():
        old = None if into is None else into.get(key)
        if isinstance(value, Tensor):
            result[key] = _room_for(value, old)
            again.append((result[key], value.detach()))
        elif isinstance(value, Mapping):
            result[key] = copied(value, old if isinstance(old, Mapping) else None)
        else:
            result[key] = value
    if again:
        torch._foreach_copy_([target for target, _ in again], [source for _, source in again])
    return result


def moved(message: Message, device: str, copy: bool = False) -> dict[str, Any]:
    """Return the tree with its tensors on a device; those that are there already are the same ones, unless ``copy``."""
    result: dict[str, Any] = {}
    for key, value in message.items():
        if isinstance(value, Tensor):
            result[key] = value.to(device, copy=copy)
        else:
            result[key] = moved(value, device, copy) if isinstance(value, Mapping) else value
    return result


def _room_for(value: Tensor, old: Any) -> Tensor:
    """Return a tensor to copy into: the old one where it fits, else a new one."""
    fits = isinstance(old, Tensor) and (old.shape, old.dtype, old.device) == (value.shape, value.dtype, value.device)
    if fits and old.untyped_storage().data_ptr() != value.untyped_storage().data_ptr():
        return old  # type: ignore[no-any-return]
    return torch.empty(value.shape, dtype=value.dtype, device=value.device)


def _header(message: Message) -> tuple[bytes, int]:
    text = json.dumps(_described(message), separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGN)
    return text, 8 + len(text) + sum(map(_raw_size, values(message)))


def _described(message: Message, path: str = "message") -> dict[str, Any]:
    """Return the tree with each tensor as a list [dtype, shape]: lists occur nowhere else in a message."""
    described: dict[str, Any] = {}
    for key, value in message.items():
        if not isinstance(key, str):
            check(message, path)  # names the place
        if isinstance(value, Tensor):
            _check_tensor(value, path, key)
            described[key] = [_NAMES[value.dtype], list(value.shape)]
        elif isinstance(value, Mapping):
            described[key] = _described(value, f"{path}[{key!r}]")
        elif isinstance(value, _PLAIN):
            described[key] = value
        else:
            check(message, path)
    return described


def _with_slots(tree: dict[str, Any], slots: list[Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, list):
            result[key] = None  # keeps the order of keys
            slots.append((result, key, _DTYPES[value[0]], value[1]))
        elif isinstance(value, dict):
            result[key] = _with_slots(value, slots)
        else:
            result[key] = value
    return result


def _raw_size(tensor: Tensor) -> int:
    count = tensor.numel()
    return (count + 7) // 8 if tensor.dtype is torch.bool else count * tensor.dtype.itemsize


def _raw(tensor: Tensor) -> memoryview:
    whole = tensor.detach().cpu().contiguous()
    flat = whole.as_strided((whole.numel(),), (1,))  # one entry counts as contiguous whatever its stride
    if flat.dtype is torch.bool:
        return np.packbits(flat.numpy()).data
    return flat.view(torch.uint8).numpy().data


def _tensor(view: memoryview, offset: int, dtype: torch.dtype, shape: list[int]) -> tuple[Tensor, int]:
    count = int(np.prod(shape, dtype=np.int64))
    if dtype is torch.bool:
        size = (count + 7) // 8
        bits = np.unpackbits(np.frombuffer(view, np.uint8, size, offset), count=count)
        return torch.from_numpy(bits).view(torch.bool).reshape(shape), offset + size
    size = count * dtype.itemsize
    if not count:
        return torch.empty(shape, dtype=dtype), offset
    if view.readonly:
        view = memoryview(bytearray(view[offset : offset + size]))
        return torch.frombuffer(view, dtype=dtype, count=count).reshape(shape), offset + size
    return torch.frombuffer(view, dtype=dtype, count=count, offset=offset).reshape(shape), offset + size
