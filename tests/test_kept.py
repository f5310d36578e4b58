import torch
from safetensors.torch import load_file

from eval.kept import code, digest, kept


def test_what_is_there_is_not_made_again(tmp_path):
    path = tmp_path / "new" / "photo.safetensors"
    made, was_there = kept(path, lambda: {"a b": torch.arange(6).view(2, 3).T})
    assert not was_there
    assert torch.equal(made["a b"], torch.tensor([[0, 3], [1, 4], [2, 5]]))
    again, was_there = kept(path, lambda: 1 / 0)
    assert was_there
    assert torch.equal(again["a b"], made["a b"])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_nothing_and_a_damaged_file_are_made_again(tmp_path):
    path = tmp_path / "photo.safetensors"
    assert kept(path, dict) == ({}, False)
    assert kept(path, lambda: 1 / 0) == ({}, True)
    for damage in (b"", b"not safetensors at all", path.read_bytes()[:5]):
        path.write_bytes(damage)
        made, was_there = kept(path, lambda: {"x": torch.ones(2)})
        assert not was_there
        assert torch.equal(load_file(path)["x"], made["x"])


def test_digests_tell_values_tensors_and_their_order_apart():
    base = torch.arange(4.0)
    things = [
        ({"a": 1},), ({"a": 2},), ({"b": 1},), ("a", 1), (1, "a"), (base,), (base.double(),), (base.flip(0),),
        ({"w": base},), ({"v": base},), (None,), (),
    ]  # fmt: skip
    assert len({digest(*thing) for thing in things}) == len(things)
    assert digest({"a": 1, "b": [2.5]}) == digest({"b": [2.5], "a": 1})
    assert digest(torch.zeros(2, 2)) == digest(torch.zeros(4, 2)[::2])


def test_the_code_has_one_name():
    assert code() == code()
    assert len(code()) == 16
