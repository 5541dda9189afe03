import fcntl

import pytest

from common.cli.atomic import MANIFEST, discard, folder_beside, replace_folder, require_own
from common.cli.lock import FolderLock


def made(folder, **files):
    part = folder_beside(folder)
    for name, text in files.items():
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).write_text(text)
    return part


def test_a_folder_of_our_own_is_replaced_whole(tmp_path):
    folder = tmp_path / "clip"
    replace_folder(made(folder, a="1", b="2"), folder, id="clip_dir")
    replace_folder(made(folder, a="3"), folder, id="clip_dir")
    assert {file.name for file in folder.iterdir()} == {"a", MANIFEST} and (folder / "a").read_text() == "3"
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


@pytest.mark.parametrize("name", ["patient.png", "a.txt", "sub/notes"])
def test_a_folder_with_a_foreign_file_stays(tmp_path, name):
    folder = tmp_path / "clip"
    replace_folder(made(folder, a="1"), folder, id="clip_dir")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    part = made(folder, a="2")
    with pytest.raises(ValueError, match=rf"clip_dir: .*holds '{name}', which was not made here and stays"):
        replace_folder(part, folder, id="clip_dir")
    assert (folder / "a").read_text() == "1" and (folder / name).read_text() == "mine"
    discard(part)


def test_a_file_that_was_changed_since_is_someone_elses(tmp_path):
    folder = tmp_path / "clip"
    replace_folder(made(folder, a="1", b="2"), folder, id="clip_dir")
    (folder / "b").write_text("mine")
    with pytest.raises(ValueError, match="holds 'b', which was not made here"):
        require_own(folder, id="clip_dir")
    assert (folder / "b").read_text() == "mine"


def test_a_folder_that_we_did_not_make_stays(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"clip_dir: .*holds 'config.json', which was not made here"):
        require_own(tmp_path, id="clip_dir")
    with pytest.raises(ValueError, match=r"clip_dir: .* is a file"):
        require_own(tmp_path / "config.json", id="clip_dir")
    require_own(tmp_path / "new", id="clip_dir")


def test_a_link_in_a_folder_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "patient.png").write_text("mine")
    folder = tmp_path / "clip"
    replace_folder(made(folder, a="1"), folder, id="clip_dir")
    (folder / "link").symlink_to(outside)
    with pytest.raises(ValueError, match="holds 'link'"):
        require_own(folder, id="clip_dir")
    assert (outside / "patient.png").exists()


def test_two_runs_never_hold_one_folder(tmp_path, monkeypatch):
    """The second had opened the lock's file as the first removed it."""
    first, second, third = (FolderLock(tmp_path) for _ in range(3))
    first.take()
    lock = fcntl.flock

    def first_is_done(file, how):
        first.release()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", first_is_done)
    second.take()
    with pytest.raises(ValueError, match="is in use by process"):
        third.take()
    second.release()
    third.take()
    third.release()
    assert not list(tmp_path.iterdir())
