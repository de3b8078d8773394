"""Files in the cache: whole or absent, named by all that they are made from."""

import pytest
import torch
from safetensors.torch import save_file

from paredown.search.tasks import cache


def test_a_cached_file_is_whole_or_absent(own_cache):
    def broken():
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        cache.cached_tensors("x", broken)
    assert not own_cache.exists() or not list(own_cache.iterdir())
    cache.cached_tensors("x", lambda: {"a": torch.ones(2)})
    assert [path.name for path in own_cache.iterdir()] == ["x.safetensors"]
    assert cache.cached_tensors("x", broken)["a"].tolist() == [1, 1]


@pytest.mark.parametrize("kept_bytes", [0, 5, 20])
def test_a_damaged_cached_file_is_made_again(own_cache, kept_bytes):
    path = cache.cached_file("x", lambda: {"a": torch.zeros(2)})
    path.write_bytes(path.read_bytes()[:kept_bytes])
    assert cache.cached_tensors("x", lambda: {"a": torch.ones(2)})["a"].tolist() == [1, 1]


@pytest.mark.parametrize("damage", ["bits", "version"])
def test_flipped_bits_of_cached_weights_are_noticed_and_made_again(own_cache, caplog, damage):
    made = {"a": torch.arange(4.0), "b": torch.ones(2, 2)}
    path = cache.cached_file("x", lambda: made)
    if damage == "version":
        save_file({name: 2 * tensor for name, tensor in made.items()}, path)  # no checksum in it
        texts = [path.read_bytes()]
    else:
        whole = path.read_bytes()
        texts = []
        for position in range(len(whole)):
            texts.append(bytearray(whole))
            texts[-1][position] ^= 1 << position % 8
    for text in texts:
        path.write_bytes(text)
        found = cache.cached_tensors("x", lambda: made)
        assert all(torch.equal(found[name], made[name]) for name in made)
    assert f"{path} is damaged" in caplog.text
    assert "made again" in caplog.text


def test_the_file_of_another_name_is_not_taken_for_it(own_cache):
    path = cache.cached_file("x", lambda: {"a": torch.zeros(2)})
    path.rename(own_cache / "y.safetensors")
    assert cache.cached_tensors("y", lambda: {"a": torch.ones(2)})["a"].tolist() == [1, 1]


def test_the_digest_keeps_parts_apart(tmp_path):
    (tmp_path / "f").write_bytes(b"ab")
    assert cache.digest("ab", "c") != cache.digest("a", "bc")
    assert cache.digest(tmp_path / "f") == cache.digest(b"ab") == cache.digest("ab")
