import torch

from eval.kept import ATTENDING, PROPOSING, SCORING, code, digest, keep, load_kept


def test_what_is_kept_comes_back_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "photo.safetensors"
    assert load_kept(path) is None
    tensors = {"a b": torch.arange(6).view(2, 3).T, "é": torch.zeros(0, 4)}
    keep(path, tensors)
    found = load_kept(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    keep(path, {})
    assert load_kept(path) == {}


def test_a_damaged_file_keeps_nothing(tmp_path):
    path = tmp_path / "photo.safetensors"
    keep(path, {"x": torch.ones(100)})
    for damage in (b"", b"not safetensors at all", path.read_bytes()[:50]):
        path.write_bytes(damage)
        assert load_kept(path) is None


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
    assert code(*ATTENDING) == code(*ATTENDING) != code(*SCORING)
    assert code("grounding/scoring.py") not in (code("grounding/pipeline.py"), code())
    for patterns in (ATTENDING, SCORING, PROPOSING):
        assert all(code(pattern) != code() for pattern in patterns)  # there are such files
