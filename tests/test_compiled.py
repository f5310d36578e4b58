import pwd

from proposals.compiled import compiled


def twice(number):
    return 2 * number


def unknown_user(number):
    raise KeyError(number)


def test_machine_code_is_kept_unless_the_user_has_no_home(monkeypatch, tmp_path):
    assert compiled(twice)(2) == 4
    assert compiled(twice).stats.cache_path is not None
    monkeypatch.delenv("HOME")
    assert compiled(twice).stats.cache_path is not None  # the home folder of the user's entry
    monkeypatch.setattr(pwd, "getpwuid", unknown_user)
    assert compiled(twice).stats.cache_path is None
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert compiled(twice)(2) == 4
