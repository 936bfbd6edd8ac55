import pytest
from study.provenance import code_hash, config_hash, write_json

from study import provenance


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / "net.py"

    def hashed(text):
        code_hash.cache_clear()
        file.write_text(text)
        return code_hash("models")

    yield hashed
    code_hash.cache_clear()


def test_code_hash_sees_code_and_nothing_else(package):
    before = package('"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1\n')
    assert package('"""Other."""\n\n\ndef f(x):\n    # a comment\n    return (x + 1)\n') == before
    assert package("def f(x):\n    return x + 2\n") != before


def test_config_hash_does_not_depend_on_the_order_of_keys():
    assert config_hash({"a": 1, "b": [1, 2]}) == config_hash({"b": [1, 2], "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "result.json"
    write_json(path, {"a": 1})
    before = path.read_text()
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == before
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]
