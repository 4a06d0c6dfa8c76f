import pytest
from conftest import write_wav

from pipeline.corpora import catalogue
from pipeline.errors import InputError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def ids(found):
    return [
        (clip.actor, clip.emotion, clip.video.name, clip.audio and clip.audio.name)
        for clip in found.clips
    ]


@pytest.mark.parametrize("actor", ["04", "14", "24"])
def test_actors_whose_names_end_like_the_suffix(tmp_path, actor):
    touch(
        tmp_path,
        f"videos/Actor_{actor}/01-01-03-02-01-02-{actor}.mp4",
        f"audios/Actor_{actor}/03-01-03-02-01-02-{actor}.wav",
    )
    (clip,) = catalogue.scan(tmp_path).clips
    assert (clip.id, clip.actor, clip.emotion) == (f"01-03-02-01-02-{actor}", int(actor), "happy")
    assert clip.audio.suffix == ".wav"


def test_labels_are_the_third_field(tmp_path):
    touch(tmp_path, *(f"01-01-{emotion:02d}-01-01-01-09.mp4" for emotion in range(1, 9)))
    found = catalogue.scan(tmp_path)
    assert {int(clip.id[3:5]) - 1: clip.label for clip in found.clips} == {n: n for n in range(8)}


def test_both_halves_may_carry_the_same_modality(tmp_path):
    touch(
        tmp_path,
        "videos/Actor_01/03-02-05-01-01-01-01.mp4",
        "audios/Actor_01/03-02-05-01-01-01-01.wav",
    )
    assert ids(catalogue.scan(tmp_path)) == [
        (1, "angry", "03-02-05-01-01-01-01.mp4", "03-02-05-01-01-01-01.wav")
    ]


def test_ravdess_as_it_unzips_counts_a_take_once(tmp_path):
    touch(
        tmp_path,
        "Video_Speech_Actor_05/Actor_05/01-01-04-01-01-01-05.mp4",
        "Video_Speech_Actor_05/Actor_05/02-01-04-01-01-01-05.mp4",
        "Audio_Speech/Actor_05/03-01-04-01-01-01-05.wav",
    )
    found = catalogue.scan(tmp_path)
    assert ids(found) == [(5, "sad", "01-01-04-01-01-01-05.mp4", "03-01-04-01-01-01-05.wav")]
    assert not found.duplicates


def test_video_only_files_need_a_wav(tmp_path):
    touch(
        tmp_path,
        "02-01-04-01-01-01-05.mp4",
        "03-01-04-01-01-01-05.wav",
        "02-01-06-01-01-01-05.mp4",
        "03-01-07-01-01-01-05.wav",
    )
    found = catalogue.scan(tmp_path)
    assert ids(found) == [(5, "sad", "02-01-04-01-01-01-05.mp4", "03-01-04-01-01-01-05.wav")]
    assert [path.name for path, _ in found.unpaired] == [
        "02-01-06-01-01-01-05.mp4",
        "03-01-07-01-01-01-05.wav",
    ]


def test_channel_narrows(tmp_path):
    touch(tmp_path, "01-01-04-01-01-01-05.mp4", "01-02-04-01-01-01-05.mp4")
    assert len(catalogue.scan(tmp_path).clips) == 2
    assert [clip.id[:2] for clip in catalogue.scan(tmp_path, "song").clips] == ["02"]


def test_misplaced_and_unreadable_names_are_set_aside(tmp_path):
    touch(
        tmp_path,
        "Actor_01/01-01-04-01-01-01-02.mp4",
        "Actor_01/01-01-04-01-01-01-01.mp4",
        "Actor_01/01-01-09-01-01-01-01.mp4",
        "Actor_01/holiday.mp4",
        "Actor_01/notes.txt",
        "Actor_01/._01-01-04-01-01-01-01.mp4",
    )
    found = catalogue.scan(tmp_path)
    assert [clip.actor for clip in found.clips] == [1]
    assert [path.name for path, _ in found.misplaced] == ["01-01-04-01-01-01-02.mp4"]
    assert [(path.name, reason) for path, reason in found.unreadable] == [
        ("01-01-09-01-01-01-01.mp4", "expected emotion 01-08, got 09"),
        ("holiday.mp4", "expected seven two-digit fields joined by hyphens"),
    ]


def test_a_second_copy_of_a_take_is_a_duplicate(tmp_path):
    touch(tmp_path, "a/01-01-04-01-01-01-05.mp4", "b/01-01-04-01-01-01-05.mp4")
    found = catalogue.scan(tmp_path)
    assert [clip.video.parent.name for clip in found.clips] == ["a"]
    assert [path.parent.name for path, _ in found.duplicates] == ["b"]


def test_symbolic_links_are_followed_and_loops_end(tmp_path):
    touch(tmp_path, "elsewhere/Actor_03/01-01-04-01-01-01-03.mp4")
    root = tmp_path / "raw"
    root.mkdir()
    (root / "videos").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(root)
    assert len(catalogue.scan(root).clips) == 1


def table(root, *lines):
    (root / catalogue.CSV_NAME).write_text("\n".join(["video,audio,emotion,actor", *lines]))


def test_clips_csv_replaces_the_naming(tmp_path):
    touch(tmp_path, "anna/laugh one.mp4", "anna/ugh.mp4")
    write_wav(tmp_path / "anna/ugh.wav", [0.0])
    table(tmp_path, "anna/ugh.mp4,anna/ugh.wav,Disgust,2", "anna/laugh one.mp4,,happy,1")
    assert ids(catalogue.scan(tmp_path)) == [
        (1, "happy", "laugh one.mp4", None),
        (2, "disgust", "ugh.mp4", "ugh.wav"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.mp4,,joyful,1", "emotion"),
        ("a.mp4,,happy,anna", "actor number"),
        ("a.mp4,,happy,0", "actor number"),
        ("b.mp4,,happy,1", "file inside"),
        ("../out.mp4,,happy,1", "file inside"),
        (",,happy,1", "expected a video"),
        ("a.mp4,,happy,1\na.mp4,,sad,1", "once"),
    ],
)
def test_clips_csv_errors_name_the_line(tmp_path, line, said):
    root = tmp_path / "raw"
    touch(root, "a.mp4", "../out.mp4")
    table(root, line)
    with pytest.raises(InputError, match=rf"clips\.csv line \d.*{said}"):
        catalogue.scan(root)


def test_clips_csv_without_its_columns(tmp_path):
    (tmp_path / catalogue.CSV_NAME).write_text("file;label\na.mp4;happy\n")
    with pytest.raises(InputError, match="expected the columns video,audio,emotion,actor"):
        catalogue.scan(tmp_path)


def test_no_clips_says_where_to_put_them(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="make demo"):
            catalogue.scan(root)
