import os

import pytest
from conftest import write_wav

from pipeline import __main__ as cli
from pipeline.corpora import emotions, ravdess, scan, sources
from pipeline.corpora.clip import Clip
from pipeline.corpora.corpus import title_of
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def files_of(found):
    return [
        (
            clip.actor,
            clip.emotion,
            clip.video and clip.video.name,
            clip.audio and clip.audio.name,
        )
        for clip in found.clips
    ]


@pytest.mark.parametrize("actor", ["04", "14", "24"])
def test_actors_whose_names_end_like_the_suffix(tmp_path, actor):
    touch(
        tmp_path,
        f"videos/Actor_{actor}/01-01-03-02-01-02-{actor}.mp4",
        f"audios/Actor_{actor}/03-01-03-02-01-02-{actor}.wav",
    )
    (clip,) = scan.scan(tmp_path).clips
    assert (clip.id, clip.actor, clip.emotion) == (f"01-03-02-01-02-{actor}", int(actor), "happy")
    assert clip.audio.suffix == ".wav"


def test_labels_are_the_third_field(tmp_path):
    touch(tmp_path, *(f"01-01-{emotion:02d}-01-01-01-09.mp4" for emotion in range(1, 9)))
    found = scan.scan(tmp_path)
    assert {int(clip.id[3:5]) - 1: clip.label for clip in found.clips} == {n: n for n in range(8)}


def test_both_halves_may_carry_the_same_modality(tmp_path):
    touch(
        tmp_path,
        "videos/Actor_01/03-02-05-01-01-01-01.mp4",
        "audios/Actor_01/03-02-05-01-01-01-01.wav",
    )
    assert files_of(scan.scan(tmp_path)) == [
        (1, "angry", "03-02-05-01-01-01-01.mp4", "03-02-05-01-01-01-01.wav")
    ]


def test_ravdess_as_it_unzips_counts_a_take_once(tmp_path):
    touch(
        tmp_path,
        "Video_Speech_Actor_05/Actor_05/01-01-04-01-01-01-05.mp4",
        "Video_Speech_Actor_05/Actor_05/02-01-04-01-01-01-05.mp4",
        "Audio_Speech/Actor_05/03-01-04-01-01-01-05.wav",
    )
    found = scan.scan(tmp_path)
    assert files_of(found) == [(5, "sad", "01-01-04-01-01-01-05.mp4", "03-01-04-01-01-01-05.wav")]
    assert not found.duplicates


def test_lone_halves_of_takes_are_clips(tmp_path):
    touch(
        tmp_path,
        "02-01-04-01-01-01-05.mp4",
        "03-01-04-01-01-01-05.wav",
        "02-01-06-01-01-01-05.mp4",
        "03-01-07-01-01-01-05.wav",
    )
    found = scan.scan(tmp_path)
    assert files_of(found) == [
        (5, "sad", "02-01-04-01-01-01-05.mp4", "03-01-04-01-01-01-05.wav"),
        (5, "fearful", "02-01-06-01-01-01-05.mp4", None),
        (5, "disgust", None, "03-01-07-01-01-01-05.wav"),
    ]
    assert found.file_counts() == {
        "video and audio files": 1,
        "video files alone": 1,
        "audio files alone": 1,
    }
    silent, alone = found.clips[1:]
    assert silent.audio_source == silent.video and silent.sources == (silent.video,)
    assert alone.audio_source == alone.audio and alone.sources == (alone.audio,)


@pytest.mark.parametrize(("modality", "suffix"), [("03", "wav"), ("02", "mp4")])
def test_ravdess_audio_alone_and_silent_video_alone_are_whole_corpora(tmp_path, modality, suffix):
    takes = [take for own in ravdess.published_takes("speech").values() for take in own]
    for take in takes:
        touch(tmp_path, f"Actor_{take[-2:]}/{modality}-{take}.{suffix}")
    found = scan.scan(tmp_path)
    assert [clip.id for clip in found.clips] == sorted(takes, key=lambda take: (take[-2:], take))
    assert len(found.clips) == 1440 and found.actors == list(range(1, 25))
    assert not (found.unreadable or found.duplicates or found.unreachable or found.misplaced)


def test_a_video_named_as_audio_is_a_video(tmp_path):
    touch(tmp_path, "03-01-05-01-02-01-12.mp4")
    assert files_of(scan.scan(tmp_path)) == [(12, "angry", "03-01-05-01-02-01-12.mp4", None)]


def test_a_clip_has_a_file():
    with pytest.raises(ValueError, match="neither"):
        Clip("a", 1, "happy")


def test_clips_are_in_the_order_of_actors(tmp_path):
    touch(tmp_path, *(f"01-01-0{n}-01-01-01-0{actor}.mp4" for n in (3, 4) for actor in (2, 1)))
    found = scan.scan(tmp_path)
    assert [(clip.actor, clip.id[3:5]) for clip in found.clips] == [
        (1, "03"),
        (1, "04"),
        (2, "03"),
        (2, "04"),
    ]


def test_channel_narrows(tmp_path):
    touch(tmp_path, "01-01-04-01-01-01-05.mp4", "01-02-04-01-01-01-05.mp4")
    assert len(scan.scan(tmp_path).clips) == 2
    assert [clip.id[:2] for clip in scan.scan(tmp_path, "song").clips] == ["02"]


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
    found = scan.scan(tmp_path)
    assert [clip.actor for clip in found.clips] == [1]
    assert [path.name for path, _ in found.misplaced] == ["01-01-04-01-01-01-02.mp4"]
    assert [(path.name, reason) for path, reason in found.unreadable] == [
        ("01-01-09-01-01-01-01.mp4", "expected emotion 01-08, got 09"),
        ("holiday.mp4", "expected seven two-digit fields joined by hyphens"),
    ]


def test_a_second_copy_of_a_take_is_a_duplicate(tmp_path):
    touch(tmp_path, "a/01-01-04-01-01-01-05.mp4", "b/01-01-04-01-01-01-05.mp4")
    found = scan.scan(tmp_path)
    assert [clip.video.parent.name for clip in found.clips] == ["a"]
    assert [path.parent.name for path, _ in found.duplicates] == ["b"]


def test_symbolic_links_are_followed_and_loops_end(tmp_path):
    touch(tmp_path, "elsewhere/Actor_03/01-01-04-01-01-01-03.mp4")
    root = tmp_path / "raw"
    root.mkdir()
    (root / "videos").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(root)
    assert len(scan.scan(root).clips) == 1


# What cannot be reached


def test_dangling_links_are_named_and_nothing_is_skipped_in_silence(tmp_path):
    touch(tmp_path, "Actor_01/01-01-04-01-01-01-01.mp4", "Actor_01/notes.txt")
    (tmp_path / "Actor_02").symlink_to("/mnt/missing")
    (tmp_path / "Actor_01/01-01-05-01-01-01-01.mp4").symlink_to(tmp_path / "gone.mp4")
    loop = tmp_path / "Actor_01/01-01-06-01-01-01-01.mp4"
    loop.symlink_to(loop)
    found = scan.scan(tmp_path)
    assert [clip.id for clip in found.clips] == ["01-04-01-01-01-01"]
    reasons = {path.relative_to(tmp_path).as_posix(): why for path, why in found.unreachable}
    assert list(reasons) == [
        "Actor_01/01-01-05-01-01-01-01.mp4",
        "Actor_01/01-01-06-01-01-01-01.mp4",
        "Actor_02",
    ]
    assert reasons["Actor_02"] == "No such file or directory (symbolic link to /mnt/missing)"
    assert "symbolic links" in reasons["Actor_01/01-01-06-01-01-01-01.mp4"]


def refuse(monkeypatch, name, folder):
    """Let a system call refuse a folder and what is in it, as without permission or after EIO."""
    real = getattr(os, name)

    def refusing(path, *rest, **options):
        if os.fspath(path).startswith(str(folder)):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **options)

    monkeypatch.setattr(os, name, refusing)


def test_a_folder_that_cannot_be_listed_is_unreachable(tmp_path, monkeypatch):
    touch(tmp_path, "Actor_01/01-01-04-01-01-01-01.mp4", "Actor_02/01-01-04-01-01-01-02.mp4")
    refuse(monkeypatch, "scandir", tmp_path / "Actor_02")
    found = scan.scan(tmp_path)
    assert found.actors == [1]
    assert found.unreachable == [(tmp_path / "Actor_02", "Permission denied (folder)")]


def test_a_file_whose_state_cannot_be_read_is_unreachable(tmp_path, monkeypatch):
    touch(tmp_path, "Actor_01/01-01-04-01-01-01-01.mp4", "Actor_02/01-01-04-01-01-01-02.mp4")
    file = tmp_path / "Actor_02/01-01-04-01-01-01-02.mp4"
    refuse(monkeypatch, "stat", file)
    assert scan.scan(tmp_path).unreachable == [(file, "Permission denied")]


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_permissions_make_folders_unreachable(tmp_path):
    touch(tmp_path, "Actor_01/01-01-04-01-01-01-01.mp4", "Actor_02/01-01-04-01-01-01-02.mp4")
    (tmp_path / "Actor_02").chmod(0)
    try:
        assert [path.name for path, _ in scan.scan(tmp_path).unreachable] == ["Actor_02"]
    finally:
        (tmp_path / "Actor_02").chmod(0o755)


def test_where_everything_is_unreachable_there_are_no_clips(tmp_path):
    (tmp_path / "Actor_02").symlink_to("/mnt/missing")
    found = scan.scan(tmp_path)
    assert not found.clips and len(found.unreachable) == 1


def test_what_a_system_puts_on_a_disk_is_passed_over(tmp_path, monkeypatch):
    touch(
        tmp_path,
        "01-01-04-01-01-01-01.mp4",
        "lost+found/01-01-05-01-01-01-01.mp4",
        ".Trash-0/01-01-06-01-01-01-01.mp4",
    )
    (tmp_path / ".link").symlink_to("/mnt/missing")
    refuse(monkeypatch, "scandir", tmp_path / "lost+found")
    found = scan.scan(tmp_path)
    assert [clip.id for clip in found.clips] == ["01-04-01-01-01-01"] and not found.unreachable


@pytest.mark.parametrize("command", ["features", "list", "audit"])
def test_a_command_names_what_is_unreachable_and_ends_with_1(tmp_path, capsys, command):
    raw, cache = tmp_path / "raw", tmp_path / "cache"
    touch(raw, "Actor_01/01-01-04-01-01-01-01.mp4")
    (raw / "Actor_02").symlink_to("/mnt/missing")
    out = {"features": ["--cache", cache], "audit": ["--out", tmp_path / "a.json"], "list": []}
    words = [command, "--raw", raw, *out[command]]
    arguments = cli.parser().parse_args([str(word) for word in words])
    assert arguments.run(arguments) == 1
    assert "Actor_02: No such file or directory" in "".join(capsys.readouterr())
    assert not cache.exists()


# File names that are not UTF-8


def write_bytes_name(root, name):
    try:
        with open(os.path.join(os.fsencode(root), name), "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")


def test_names_that_are_not_utf8_are_set_aside_and_print(tmp_path, capsys):
    touch(tmp_path, "01-01-04-01-01-01-01.mp4")
    write_bytes_name(tmp_path, b"caf\xe9.mp4")
    folder = tmp_path / os.fsdecode(b"Sc\xe8ne")
    touch(folder, "01-01-05-01-01-01-01.mp4")
    found = scan.scan(tmp_path)
    assert [clip.id for clip in found.clips] == ["01-04-01-01-01-01"]
    assert [reason for _, reason in found.unreadable] == [
        "expected a name in UTF-8, got caf\\xe9.mp4; rename it",
        "expected a name in UTF-8, got Sc\\xe8ne/01-01-05-01-01-01-01.mp4; rename it",
    ]
    arguments = cli.parser().parse_args(["list", "--raw", str(tmp_path)])
    assert arguments.run(arguments) == 0
    said = capsys.readouterr().out
    assert "caf\\xe9.mp4" in said and said.encode()


def test_a_raw_folder_whose_own_name_is_not_utf8_can_be_listed(tmp_path, capsys):
    root = tmp_path / os.fsdecode(b"donn\xe9es")
    touch(root, "01-01-04-01-01-01-01.mp4", "holiday.mp4")
    assert len(scan.scan(root).clips) == 1
    arguments = cli.parser().parse_args(["list", "--raw", str(root)])
    assert arguments.run(arguments) == 0
    assert "donn\\xe9es/holiday.mp4" in capsys.readouterr().out


def test_a_folder_of_such_names_alone_says_why_there_are_no_clips(tmp_path):
    write_bytes_name(tmp_path, b"caf\xe9.mp4")
    with pytest.raises(InputError, match=r"1 media files set aside, such as caf\\xe9\.mp4: expec"):
        scan.scan(tmp_path)


def test_clips_csv_that_is_not_utf8(tmp_path):
    write_bytes_name(tmp_path, b"caf\xe9.mp4")
    (tmp_path / "clips.csv").write_bytes(b"video,emotion,actor\ncaf\xe9.mp4,happy,1\n")
    with pytest.raises(InputError, match=r"expected UTF-8.*save it as CSV UTF-8") as caught:
        scan.scan(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain é 日本.mp4", "plain é 日本.mp4"),
        ("caf\udce9.mp4", r"caf\xe9.mp4"),
        ("a\nb\x1b[2J", r"a\nb\x1b[2J"),
        ("\ud800", r"\ud800"),
    ],
)
def test_printable(text, printed):
    assert sources.printable(text) == printed


# clips.csv


def table(root, *lines, header="video,audio,emotion,actor"):
    (root / "clips.csv").write_text("\n".join([header, *lines]))


def test_clips_csv_replaces_the_naming(tmp_path):
    touch(tmp_path, "anna/laugh one.mp4", "anna/ugh.mp4")
    write_wav(tmp_path / "anna/ugh.wav", [0.0])
    table(tmp_path, "anna/ugh.mp4,anna/ugh.wav,Disgust,2", "anna/laugh one.mp4,,happy,1")
    assert files_of(scan.scan(tmp_path)) == [
        (1, "happy", "laugh one.mp4", None),
        (2, "disgust", "ugh.mp4", "ugh.wav"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.mp4,,joyful,1", "emotion"),
        ("a.mp4,,happy, ", "expected an actor"),
        ("b.mp4,,happy,1", "file inside"),
        ("../out.mp4,,happy,1", "file inside"),
        (",,happy,1", "expected a video or an audio file, got neither"),
        (",b.wav,happy,1", "file inside"),
        ("a.mp4,,happy,1\n./a.mp4,,sad,1", "each video once"),
        (",a.mp4,happy,1\n,a.mp4,sad,1", "each audio file without a video once"),
        ("a.mp4,,happy,1\n,a.mp4,happy,1", "each audio file without a video once"),
        ("a.mp4,,happy,Smith, Anna", "expected 4 cells, .* got 'Anna' beyond them; .* quotes"),
    ],
)
def test_clips_csv_errors_name_the_line(tmp_path, line, said):
    root = tmp_path / "raw"
    touch(root, "a.mp4", "../out.mp4")
    table(root, line)
    with pytest.raises(InputError, match=rf"clips\.csv line \d.*{said}"):
        scan.scan(root)


def test_a_cell_beyond_the_header_is_no_absent_column(tmp_path):
    touch(tmp_path, "a.wav", "x.mp4")
    table(tmp_path, "a.wav,happy,1,x.mp4", header="audio,emotion,actor")
    with pytest.raises(InputError, match=r"line 2: expected 3 cells, .* got 'x\.mp4' beyond"):
        scan.scan(tmp_path)
    table(tmp_path, 'a.wav,happy,"Smith, Anna", ,', header="audio,emotion,actor")
    assert scan.scan(tmp_path).actor_names == {1: "Smith, Anna"}


def test_paths_by_way_of_a_link_to_the_folder_are_inside_it(tmp_path):
    raw, link = tmp_path / "raw", tmp_path / "link"
    touch(raw, "a.mp4", "b.mp4", "c.mp4")
    link.symlink_to(raw)
    table(raw, f"{raw}/a.mp4,,happy,1", f"{link}/b.mp4,,happy,1", "../link/c.mp4,,happy,1")
    for root in (raw, link):
        clips = scan.scan(root).clips
        assert [clip.id for clip in clips] == ["a.mp4", "b.mp4", "c.mp4"]
        assert clips[1].video == root / "b.mp4"


@pytest.mark.parametrize(
    "text",
    ["file;label\na.mp4;happy\n", "emotion,actor\nhappy,1\n", "video,actor\na.mp4,1\n", ""],
)
def test_clips_csv_without_its_columns(tmp_path, text):
    (tmp_path / "clips.csv").write_text(text)
    with pytest.raises(InputError, match="expected the columns video,audio,emotion,actor"):
        scan.scan(tmp_path)


@pytest.mark.parametrize(
    ("header", "line", "video", "audio"),
    [
        ("video,emotion,actor", "a.mp4,happy,1", "a.mp4", None),
        ("audio,emotion,actor", "a.wav,happy,1", None, "a.wav"),
        ("Actor, Emotion ,AUDIO,note", "1,happy,a.wav,fine", None, "a.wav"),
        ("video,audio,emotion,actor", ",a.wav,happy,1", None, "a.wav"),
    ],
)
def test_columns_of_clips_csv_may_be_missing_and_in_any_order(tmp_path, header, line, video, audio):
    touch(tmp_path, "a.mp4", "a.wav")
    table(tmp_path, line, ",,,", header=header)
    (clip,) = scan.scan(tmp_path).clips
    assert (clip.id, clip.emotion, clip.actor) == (video or audio, "happy", 1)
    assert (clip.video, clip.audio) == (video and tmp_path / video, audio and tmp_path / audio)


@pytest.mark.parametrize(
    ("actors", "numbers", "names"),
    [
        (["7", "03", "3"], [7, 3, 3], {}),
        (["ben", "anna", "Ben "], [1, 2, 1], {1: "ben", 2: "anna"}),
        (["5", "anna", "5"], [1, 2, 1], {1: "5", 2: "anna"}),
        (["Jos\u00e9", "Jose\u0301", "JOSE\u0301"], [1, 1, 1], {1: "Jos\u00e9"}),
        (["0", "1", "2"], [1, 2, 3], {1: "0", 2: "1", 3: "2"}),
        (["1 11", "11 1", "٣"], [1, 2, 3], {1: "1 11", 2: "11 1", 3: "٣"}),
    ],
)
def test_actors_are_numbers_or_are_numbered_in_their_order(tmp_path, actors, numbers, names):
    touch(tmp_path, "0.wav", "1.wav", "2.wav")
    table(tmp_path, *(f",{n}.wav,sad,{actor}" for n, actor in enumerate(actors)))
    found = scan.scan(tmp_path)
    assert [clip.actor for clip in sorted(found.clips, key=lambda clip: clip.id)] == numbers
    assert found.actor_names == names


@pytest.mark.parametrize(
    ("word", "emotion"),
    [
        *((name, name) for name in EMOTIONS),
        ("Fear", "fearful"),
        ("ANGER", "angry"),
        (" h a p p y ", "happy"),
        ("happiness", "happy"),
        ("joy", "happy"),
        ("sadness", "sad"),
        ("disgusted", "disgust"),
        ("surprise", "surprised"),
    ],
)
def test_emotions_have_synonyms(tmp_path, word, emotion):
    touch(tmp_path, "a.wav")
    table(tmp_path, f",a.wav,{word},1")
    assert scan.scan(tmp_path).clips[0].emotion == emotion


def labels(tmp_path, text):
    path = tmp_path / "map.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("header", ["", "label,emotion\n"])
def test_labels_give_a_users_words_a_meaning(tmp_path, header):
    touch(tmp_path, "0.wav", "1.wav", "2.wav")
    table(tmp_path, ",0.wav,Wütend,1", ",1.wav,joy,1", ",2.wav,sad,1")
    words = labels(tmp_path, f"{header}wütend, Anger\n\njoy,surprised\nwütend,angry\n")
    found = scan.scan(tmp_path, labels=words)
    assert [clip.emotion for clip in found.clips] == ["angry", "surprised", "sad"]


def test_accents_may_be_encoded_in_two_ways(tmp_path):
    """macOS gives the names of folders decomposed, a text editor writes them composed."""
    composed, decomposed = "w\u00fctend", "wu\u0308tend"
    touch(tmp_path, f"{decomposed}/anna_1.wav", f"{composed.upper()}/anna_2.wav")
    for word in (composed, decomposed):
        words = labels(tmp_path, f"{word},angry\n")
        found = scan.scan(tmp_path, labels=words, speaker="(anna)")
        assert [clip.emotion for clip in found.clips] == ["angry", "angry"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bored,boredom\n", r"line 1: expected an emotion out of .*, got 'boredom'; correct"),
        ("a,happy\nb\n", r"line 2: expected two columns, .* got 'b'; correct"),
        ("a,happy,1\n", r"line 1: expected two columns"),
        (",happy\n", r"line 1: expected two columns"),
        ("a,happy\nA ,sad\n", r"line 2: expected one meaning of 'A', got sad after happy; rem"),
    ],
)
def test_errors_of_labels_name_the_line(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        emotions.read_labels(labels(tmp_path, text))


def test_labels_that_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere.csv"):
        with pytest.raises(InputError, match="expected a readable file"):
            emotions.read_labels(path)


def test_options_that_do_not_apply_are_refused(tmp_path):
    touch(tmp_path, "named/01-01-04-01-01-01-01.mp4", "listed/a.mp4")
    table(tmp_path / "listed", "a.mp4,,happy,1")
    with pytest.raises(InputError, match=r"expected no channel with .*, got 'song'; .*leave"):
        scan.scan(tmp_path / "listed", channel="song")
    with pytest.raises(InputError, match=r"expected .*clips\.csv for the labels .*, got none"):
        scan.scan(tmp_path / "named", labels=labels(tmp_path, "a,happy\n"))


@pytest.mark.slow
def test_a_hundred_thousand_clips_are_listed(tmp_path):
    for folder in range(1000):
        (tmp_path / f"{folder:03d}").mkdir()
    names = [f"{n % 1000:03d}/{n:06d}.wav" for n in range(100_000)]
    for name in names:
        os.close(os.open(tmp_path / name, os.O_CREAT | os.O_WRONLY))
    table(tmp_path, *(f",{name},sad,s{name[:3]}" for name in names))
    found = scan.scan(tmp_path)
    assert len(found.clips) == 100_000 and len(found.actors) == 1000


def test_no_clips_says_where_to_put_them(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="make demo"):
            scan.scan(root)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_folder_says_what_it_holds(tmp_path, encoding):
    assert title_of(tmp_path) == tmp_path.name
    (tmp_path / "corpus.txt").write_text("Hörproben \nof my own\n", encoding)
    assert title_of(tmp_path) == "Hörproben"
