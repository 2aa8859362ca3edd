"""What travels: every message survives encoding bit by bit, costs what it says, and runs no code."""

import json
import math
import os
import pickle
import struct
from collections import OrderedDict
from contextlib import suppress
from types import MappingProxyType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pflbench.errors import TrialFailed
from pflbench.message import check, copied, decode, encode, encoded_size, tensors

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


def drawn(dtype, shape, seed, layout="plain"):
    """Return a tensor of random bits, NaNs included."""
    rng = torch.Generator().manual_seed(seed)
    if layout == "transposed":
        return drawn(dtype, shape[::-1], seed).permute(list(reversed(range(len(shape)))))
    if layout == "strided" and math.prod(shape) > 1:  # smaller ones have a test of their own
        return drawn(dtype, [*shape[:-1], 2 * shape[-1]], seed)[..., ::2]
    count = math.prod(shape)
    if dtype is torch.bool:
        return torch.randint(2, shape, generator=rng).bool()
    return torch.randint(256, (count * dtype.itemsize,), generator=rng, dtype=torch.uint8).view(dtype).reshape(shape)


any_tensor = st.builds(
    drawn,
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 5), max_size=3),
    st.integers(0, 2**32),
    st.sampled_from(["plain", "transposed", "strided"]),
)
leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | any_tensor
trees = st.dictionaries(
    st.text(max_size=8),
    st.recursive(leaf, lambda inner: st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=12),
    max_size=5,
)


def bits(tensor):
    return tensor.flatten().clone(memory_format=torch.contiguous_format).view(torch.uint8).tolist()


def same(one, other):
    """Say whether two trees are equal in order, types and bits."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and bits(one) == bits(other)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return type(one) is type(other) and repr(one) == repr(other)


@given(trees)
@settings(max_examples=150, deadline=None)
def test_every_message_comes_back_bit_by_bit(message):
    assert same(decode(encode(message)), message)


@given(trees)
@settings(max_examples=100, deadline=None)
def test_the_size_is_known_without_encoding(message):
    assert encoded_size(message) == len(encode(message))


@given(trees)
@settings(max_examples=50, deadline=None)
def test_a_writable_buffer_gives_the_same_message_as_a_read_only_one(message):
    encoded = encode(message)
    assert same(decode(bytearray(encoded)), message)
    assert same(decode(memoryview(encoded)), message)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (7,), (2, 3, 5)], ids=str)
def test_every_type_and_shape_travels(dtype, shape):
    tensor = drawn(dtype, list(shape), seed=1)
    assert same(decode(encode({"t": tensor}))["t"], tensor)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_empty_or_single_element_of_a_strided_tensor_travels(dtype, count):
    tensor = torch.ones(2 * count, dtype=dtype)[::2]
    assert decode(encode({"t": tensor}))["t"].tolist() == [1] * count


def test_tensors_of_all_types_together_lie_aligned_in_the_buffer():
    message = {str(dtype): drawn(dtype, [3], seed) for seed, dtype in enumerate(reversed(DTYPES))}
    decoded = decode(bytearray(encode(message)))
    assert same(decoded, message)
    assert all(decoded[str(dtype)].data_ptr() % dtype.itemsize == 0 for dtype in DTYPES)


def test_a_decoded_tensor_can_be_written_to():
    decoded = decode(encode({"w": torch.zeros(3)}))
    decoded["w"].add_(1)
    assert decoded["w"].tolist() == [1, 1, 1]


def test_an_empty_message_has_no_bytes():
    assert encode({}) == b""
    assert encoded_size({}) == 0
    assert decode(b"") == {}


def test_a_message_that_holds_only_an_empty_mapping_is_sent():
    assert decode(encode({"mask": {}})) == {"mask": {}}


def test_a_boolean_costs_a_bit():
    sizes = [encoded_size({"mask": torch.zeros(count, dtype=torch.bool)}) for count in (8000, 8001, 8008, 8009)]
    assert [size - sizes[0] for size in sizes] == [0, 1, 1, 2]


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d is not torch.bool], ids=str)
def test_a_number_costs_its_own_width(dtype):
    few, many = (encoded_size({"w": torch.zeros(count, dtype=dtype)}) for count in (1000, 1100))
    assert many - few == 100 * torch.zeros(1, dtype=dtype).element_size()


def test_the_bytes_are_a_json_header_and_raw_tensors():
    encoded = encode({"b": torch.tensor([True, False, True]), "w": torch.tensor([1.5]), "n": 2})
    (length,) = struct.unpack_from("<Q", encoded)
    header = json.loads(encoded[8 : 8 + length])
    assert header == {"b": ["bool", [3]], "w": ["float32", [1]], "n": 2}
    assert encoded[8 + length :] == struct.pack("<f", 1.5) + bytes([0b10100000])


def test_gradients_and_parameters_travel_as_plain_tensors():
    decoded = decode(encode({"w": nn.Parameter(torch.ones(2))}))
    assert type(decoded["w"]) is torch.Tensor
    assert not decoded["w"].requires_grad


@pytest.mark.parametrize("mapping", [MappingProxyType, OrderedDict])
def test_any_mapping_travels(mapping):
    message = mapping({"inner": mapping({"w": torch.ones(2)})})
    assert same(decode(encode(message)), {"inner": {"w": torch.ones(2)}})


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([1, 2], "list"),
        ((1,), "tuple"),
        (nn.Linear(1, 1), "Linear"),
        (object(), "object"),
        (b"bytes", "bytes"),
        (1 + 2j, "complex"),
        (print, "builtin_function_or_method"),
    ],
)
def test_what_may_not_travel_is_refused_with_its_path(value, kind):
    message = {"weights": {"enc1": value}}
    for refuse in (encode, encoded_size, check):
        with pytest.raises(TrialFailed, match=rf"message\['weights'\]\['enc1'\] is a {kind}") as error:
            refuse(message)
    assert "tensors, numbers, strings, None" in str(error.value)


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(2, dtype=torch.complex64), torch.eye(2).to_sparse(), torch.zeros(2, dtype=torch.uint16)],
)
def test_a_tensor_that_is_not_dense_and_of_a_known_type_is_refused_with_its_path(tensor):
    with pytest.raises(TrialFailed, match=r"message\['w'\]"):
        encode({"w": tensor})


def test_a_key_that_is_no_string_is_refused_with_its_path():
    with pytest.raises(TrialFailed, match=r"message\['a'\]\[3\].*int"):
        encode({"a": {3: torch.ones(1)}})


def test_the_path_of_a_check_starts_where_the_caller_says():
    with pytest.raises(TrialFailed, match=r"client.state\['memory'\] is a set"):
        check({"memory": {1}}, "client.state")


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_decoding_executes_nothing(tmp_path):
    pickled = pickle.dumps(Evil(tmp_path / "executed"))
    for garbage in (
        pickled,
        struct.pack("<Q", len(pickled)) + pickled,
        struct.pack("<Q", 2) + b"{}" + pickled,
    ):
        with suppress(Exception):
            decode(garbage)
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickled)  # the oracle: this payload does execute where it is unpickled
    assert (tmp_path / "executed").exists()


@given(st.binary(max_size=64))
@settings(max_examples=100, deadline=None)
def test_garbage_is_refused_or_a_mapping(garbage):
    try:
        decoded = decode(garbage)
    except Exception:
        return
    assert isinstance(decoded, dict)


def test_a_message_that_was_cut_off_is_refused():
    encoded = encode({"w": torch.ones(4), "mask": torch.ones(9, dtype=torch.bool)})
    for length in range(1, len(encoded)):
        with pytest.raises(Exception, match=r"."):
            decode(encoded[:length])


def test_tensors_are_listed_with_their_paths():
    message = {"a": torch.ones(1), "b": {"c": torch.zeros(2), "n": 3}}
    assert [path for path, _ in tensors(message)] == ["message['a']", "message['b']['c']"]


@given(trees)
@settings(max_examples=50, deadline=None)
def test_a_copy_is_equal_and_shares_no_memory(message):
    copy = copied(message)
    assert same(copy, message)
    originals = {tensor.untyped_storage().data_ptr() for _, tensor in tensors(message) if tensor.numel()}
    assert originals.isdisjoint(t.untyped_storage().data_ptr() for _, t in tensors(copy) if t.numel())


def test_a_copy_does_not_follow_its_original():
    message = {"inner": {"w": torch.ones(3)}}
    copy = copied(message)
    message["inner"]["w"].zero_()
    assert copy["inner"]["w"].tolist() == [1, 1, 1]


def test_a_copy_uses_the_memory_of_an_earlier_copy_again():
    earlier = copied({"inner": {"w": torch.zeros(3)}, "other": torch.zeros(2)})
    later = copied({"inner": {"w": torch.ones(3)}, "other": torch.ones(5)}, into=earlier)
    assert later["inner"]["w"].data_ptr() == earlier["inner"]["w"].data_ptr()
    assert later["inner"]["w"].tolist() == [1, 1, 1]
    assert later["other"].tolist() == [1] * 5


@pytest.mark.parametrize("old", [torch.zeros(2), torch.zeros(3).double(), None, "text", {"w": torch.zeros(3)}])
def test_memory_that_does_not_fit_is_not_used(old):
    original = torch.tensor([1.0, 2.0, 3.0])
    copy = copied({"w": original}, into={"w": old})
    assert same(copy, {"w": original})
    assert copy["w"].data_ptr() != original.data_ptr()


def test_a_message_copied_into_itself_is_still_a_copy():
    message = {"w": torch.ones(3)}
    copy = copied(message, into=message)
    message["w"].zero_()
    assert copy["w"].tolist() == [1, 1, 1]


def test_a_copy_carries_no_gradient():
    weight = nn.Parameter(torch.ones(2))
    assert not copied({"w": weight})["w"].requires_grad
