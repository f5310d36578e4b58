import torch

from eval.cache import load_tensors, save_tensors


def test_tensors_come_back_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "photo.safetensors"
    assert load_tensors(path) is None
    tensors = {"a b": torch.arange(6).view(2, 3).T, "é": torch.zeros(0, 4)}
    save_tensors(path, tensors)
    found = load_tensors(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    save_tensors(path, {})
    assert load_tensors(path) == {}


def test_a_damaged_file_holds_no_tensors(tmp_path):
    path = tmp_path / "photo.safetensors"
    save_tensors(path, {"x": torch.ones(100)})
    for damage in (b"", b"not safetensors at all", path.read_bytes()[:50]):
        path.write_bytes(damage)
        assert load_tensors(path) is None
