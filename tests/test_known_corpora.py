"""Each corpus by real names and published counts: files of no content, or of one frame."""

import itertools
import re
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from conftest import write_wav

from pipeline import __main__ as command_line
from pipeline.cache import build
from pipeline.corpora import balance, crema_d, folders, iemocap, known, ravdess, scan
from pipeline.corpora.clip import Clip
from pipeline.errors import InputError
from pipeline.media import encode
from pipeline.spec import EMOTIONS

DOCS = Path(__file__).parents[1] / "docs/data.md"


def touch(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def crema_names():
    """7,442 names: of 12 sentences one has three levels; 20 of 7,462 takes were never made."""
    sentences = ("DFA", "IOM", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI")
    takes = []
    for actor in range(1001, 1092):
        takes += [
            f"{actor}_{sentence}_{word}_XX"
            for sentence, word in itertools.product(sentences, crema_d.LABELS)
        ]
        takes += [
            f"{actor}_IEO_{word}_{level}"
            for word, level in itertools.product(crema_d.LABELS, ("LO", "MD", "HI"))
            if word != "NEU"
        ]
        takes.append(f"{actor}_IEO_NEU_XX")
    missing = [f"{actor}_DFA_SAD_XX" for actor in range(1001, 1021)]
    return [take for take in takes if take not in missing]


def ravdess_names():
    for part in ravdess.CHANNELS:
        for actor, takes in ravdess.published_takes(part).items():
            for take in takes:
                yield f"Actor_{actor:02d}/03-{take}.wav"


def savee_names():
    for speaker in ("DC", "JE", "JK", "KL"):
        for letter in ("a", "d", "f", "h", "n", "sa", "su"):
            for number in range(1, 31 if letter == "n" else 16):
                yield f"AudioData/{speaker}/{letter}{number:02d}.wav"
                yield f"AudioVisualClip/{speaker}/{letter}{number}.avi"


def subesco_names():
    words = ("ANGRY", "DISGUST", "FEAR", "HAPPY", "NEUTRAL", "SAD", "SURPRISE")
    for letter, speaker in itertools.product("FM", range(1, 11)):
        for sentence, word, take in itertools.product(range(1, 11), words, range(1, 6)):
            name = f"{letter}_{speaker:02d}_NAME_S_{sentence}_{word}_{take}"
            odd = name == "F_02_NAME_S_2_SURPRISE_3"
            yield f"SUBESCO/{name}{']' if odd else ''}.wav"


IEMOCAP_COUNTS = {
    "ang": 1103, "hap": 595, "sad": 1084, "neu": 1708, "fru": 1849, "exc": 1041, "fea": 40,
    "sur": 107, "dis": 2, "oth": 3, "xxx": 2507,
}  # fmt: skip


def write_iemocap(root):
    """10,039 utterances with the published numbers of labels, in dialogues of ten sessions."""
    labels = [word for word, count in IEMOCAP_COUNTS.items() for _ in range(count)]
    lines = {}
    for number, word in enumerate(labels):
        session, rest = number % 5 + 1, number // 5
        dialogue = f"Ses0{session}{'FM'[rest % 2]}_impro{rest // 900:02d}"
        take = f"{dialogue}_{'FM'[rest % 3 % 2]}{rest % 900:03d}"
        touch(root, [f"Session{session}/sentences/wav/{dialogue}/{take}.wav"])
        line = f"[6.2901 - 8.2357]\t{take}\t{word}\t[2.5000, 2.5000, 2.5000]"
        lines.setdefault((session, dialogue), []).append(line)
    for (session, dialogue), own in lines.items():
        folder = root / f"Session{session}/dialog/EmoEvaluation"
        folder.mkdir(parents=True, exist_ok=True)
        head = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        (folder / f"{dialogue}.txt").write_text(head + "\nC-E2:\tNeutral;\t()\n".join(own) + "\n")


MELD_COUNTS = {
    "train": [4710, 1743, 1205, 1109, 683, 271, 268],
    "dev": [470, 163, 150, 153, 111, 22, 40],
    "test": [1256, 402, 281, 345, 208, 68, 50],
}
MELD_FOLDERS = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}


def write_meld(root):
    """13,708 utterances with the published numbers of labels."""
    words = ("neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear")
    for split, counts in MELD_COUNTS.items():
        labels = [word for word, count in zip(words, counts, strict=True) for _ in range(count)]
        lines = ["Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season"]
        for number, word in enumerate(labels):
            speaker = ("Joey", "Ross", "Rachel", "Phoebe", "Monica", "Chandler")[number % 6]
            dialogue, utterance = divmod(number, 20)
            said = '"Oh, right."'
            lines.append(f"{number},{said},{speaker},{word},x,{dialogue},{utterance},8")
            touch(root, [f"{split}/{MELD_FOLDERS[split]}/dia{dialogue}_utt{utterance}.mp4"])
        (root / f"{split}_sent_emo.csv").write_text("\ufeff" + "\n".join(lines), "utf-8")


WRITERS = {
    "ravdess": lambda root: touch(root, ravdess_names()),
    "crema_d": lambda root: touch(
        root,
        [f"AudioWAV/{take}.wav" for take in crema_names()]
        + [f"VideoFlash/{take}.flv" for take in crema_names()],
    ),
    "savee": lambda root: touch(root, savee_names()),
    "subesco": lambda root: touch(root, subesco_names()),
    "iemocap": write_iemocap,
    "meld": write_meld,
}
USED = {"crema_d": 7441, "iemocap": 5680}
SPEAKERS = {"ravdess": 24, "crema_d": 91, "savee": 4, "subesco": 20, "iemocap": 10, "meld": 6}


@pytest.fixture(scope="session", params=WRITERS)
def whole(request, tmp_path_factory):
    """A whole corpus of empty files, and its facts."""
    root = tmp_path_factory.mktemp(request.param)
    WRITERS[request.param](root)
    return root, known.CORPORA[request.param]


def test_a_whole_corpus_is_recognised_with_its_counts(whole):
    root, corpus = whole
    found = scan.scan(root)
    assert found.corpus == corpus.title
    assert len(found.clips) == USED.get(corpus.name, corpus.clips)
    assert len(found.actors) == SPEAKERS[corpus.name]
    assert not (found.duplicates or found.misplaced or found.unreachable)
    assert len(found.unreadable) == (
        corpus.clips - len(found.clips)
        if corpus.name == "iemocap"
        else 5 * (corpus.name == "crema_d")
    )
    occurring = {clip.emotion for clip in found.clips}
    assert occurring == set(EMOTIONS) - set(corpus.absent)
    assert {(clip.id, clip.actor) for clip in found.clips} == {
        (clip.id, clip.actor) for clip in scan.scan(root, corpus=corpus.name).clips
    }


@pytest.mark.parametrize("corpus", known.CORPORA.values(), ids=known.CORPORA)
def test_facts_are_complete_and_labels_are_ours(corpus):
    assert set(corpus.labels.values()) <= set(EMOTIONS)
    assert not set(corpus.labels) & set(corpus.left_out)
    numbers = list(corpus.speakers.values())
    assert len(set(numbers)) == len(numbers) and all(number >= 1 for number in numbers)
    assert corpus.clips and corpus.licence and corpus.citation and corpus.how_to_get
    assert bool(corpus.read_tables) == bool(corpus.tables_are)


@pytest.mark.parametrize(
    ("corpus", "path", "take", "speaker", "word"),
    [
        ("crema_d", "AudioWAV/1001_DFA_ANG_XX.wav", "1001_DFA_ANG_XX", "1001", "ANG"),
        ("crema_d", "1040_ITH_SAD_X.wav", "1040_ITH_SAD_XX", "1040", "SAD"),
        ("savee", "AudioVisualClip/DC/a1.avi", "DC/a01", "DC", "a"),
        ("savee", "AudioData/KL/su15.wav", "KL/su15", "KL", "su"),
        ("savee", "ALL/JK_sa03.wav", "JK/sa03", "JK", "sa"),
        ("subesco", "F_10_X_S_10_SAD_5.wav", "F_10_X_S_10_SAD_5", "F_10", "SAD"),
        ("subesco", "F_02_M_S_2_SURPRISE_3].wav", "F_02_M_S_2_SURPRISE_3", "F_02", "SURPRISE"),
        ("iemocap", "Ses01F_impro04_F000.wav", "Ses01F_impro04_F000", "1F", None),
        ("iemocap", "Ses01F_impro04_M012.wav", "Ses01F_impro04_M012", "1M", None),
        ("iemocap", "Ses05M_script01_1b_F031.wav", "Ses05M_script01_1b_F031", "5F", None),
        ("meld", "train_splits/dia0_utt0.mp4", "train/dia0_utt0", None, None),
        ("meld", "test/output_repeated_splits_test/dia9_utt3.mp4", "test/dia9_utt3", None, None),
        ("ravdess", "Actor_05/01-02-04-01-01-01-05.mp4", "02-04-01-01-01-05", "05", "04"),
    ],
)
def test_names(corpus, path, take, speaker, word):
    recording = known.CORPORA[corpus].parse(PurePosixPath(path))
    assert recording[:3] == (take, speaker, word)


@pytest.mark.parametrize(
    ("corpus", "path"),
    [
        ("crema_d", "1092_DFA_ANG_XX.wav"),
        ("crema_d", "1001_DFA_JOY_XX.wav"),
        ("savee", "a01.wav"),
        ("savee", "XX/a01.wav"),
        ("savee", "DC/n31.wav"),
        ("subesco", "F_11_X_S_1_SAD_1.wav"),
        ("iemocap", "Ses06F_impro04_F000.wav"),
        ("iemocap", "dialog/wav/Ses01F_impro04.wav"),
        ("meld", "dia0_utt0.mp4"),
        ("meld", "latest_ones/dia0_utt0.mp4"),
    ],
)
def test_other_names_are_refused(corpus, path):
    with pytest.raises(ValueError, match="expected"):
        known.CORPORA[corpus].parse(PurePosixPath(path))


@pytest.mark.parametrize("pair", list(itertools.combinations(known.CORPORA, 2)))
def test_no_name_is_that_of_two_corpora(pair):
    names = {
        "ravdess": "Actor_01/01-01-04-01-01-01-01.mp4",
        "crema_d": "AudioWAV/1001_DFA_ANG_XX.wav",
        "savee": "AudioData/DC/a01.wav",
        "subesco": "SUBESCO/F_02_MONIKA_S_1_NEUTRAL_5.wav",
        "iemocap": "Session1/sentences/wav/Ses01F_impro04/Ses01F_impro04_F000.wav",
        "meld": "MELD.Raw/train/train_splits/dia0_utt0.mp4",
    }
    for own in pair:
        assert known.recognise([PurePosixPath(names[own])]) == {own: 1}


# What each has of its own


def test_the_speaker_of_iemocap_is_the_last_letter(tmp_path):
    folder = tmp_path / "Session1/dialog/EmoEvaluation"
    (folder / "Self-evaluation").mkdir(parents=True)
    lines = ["F000\tneu", "M000\texc", "F001\tfru", "M001\txxx"]
    text = "\n".join(f"[1.0 - 2.0]\tSes01F_impro04_{line}\t[2, 2, 2]" for line in lines)
    (folder / "Ses01F_impro04.txt").write_text(text)
    other = text.replace("neu", "sad")
    (folder / "Self-evaluation/Ses01F_impro04_f.txt").write_text(other)
    touch(tmp_path, [f"Ses01F_impro04_{line[:4]}.wav" for line in lines])
    touch(tmp_path, ["Ses01F_impro04_F099.wav"])
    found = scan.scan(tmp_path)
    assert [(clip.actor, clip.emotion) for clip in found.clips] == [(1, "neutral"), (2, "happy")]
    assert found.actor_names == {1: "1F", 2: "1M"}
    reasons = {path.stem[-4:]: reason for path, reason in found.unreadable}
    assert "'fru' (frustrated) is none of the eight" in reasons["F001"]
    assert "'xxx' (no agreement)" in reasons["M001"]
    assert "is not in Session*/dialog/EmoEvaluation/*.txt" in reasons["F099"]


def test_meld_numbers_dialogues_in_each_split_and_speakers_across_them(tmp_path):
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID"
    rows = {
        "train": ["1,a,Rachel,joy,x,0,0", "2,b,Joey and Ross,anger,x,0,1", "3,c,All,joy,x,0,2"],
        "dev": ["1,a,Ursula,fear,x,0,0", "2,b,Phoebe,sadness,x,0,1"],
        "test": ["1,a,rachel ,neutral,x,0,0"],
    }
    for split, lines in rows.items():
        (tmp_path / f"{split}_sent_emo.csv").write_text("\n".join([header, *lines]))
        touch(tmp_path, [f"{MELD_FOLDERS[split]}/dia0_utt{n}.mp4" for n in range(len(lines))])
    touch(tmp_path, [f"{MELD_FOLDERS['test']}/._dia0_utt0.mp4"])
    found = scan.scan(tmp_path)
    assert [(clip.id, clip.actor, clip.emotion) for clip in found.clips] == [
        ("test/dia0_utt0", 1, "neutral"),
        ("train/dia0_utt0", 1, "happy"),
        ("dev/dia0_utt0", 2, "fearful"),
        ("dev/dia0_utt1", 2, "sad"),
    ]
    assert [reason for _, reason in found.unreadable] == ["several actors speak"] * 2
    (tmp_path / "dev_sent_emo.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"expected the columns .* in .*dev_sent_emo\.csv"):
        scan.scan(tmp_path)


def test_without_its_table_meld_has_no_clips_and_says_so(tmp_path):
    touch(tmp_path, ["train_splits/dia0_utt0.mp4"])
    with pytest.raises(InputError, match=r"train/dia0_utt0 is not in train_sent_emo\.csv"):
        scan.scan(tmp_path)


def test_damaged_files_are_set_aside_and_the_sound_ones_used(tmp_path):
    touch(tmp_path, [f"VideoFlash/1076_MTI_{word}_XX.flv" for word in ("NEU", "SAD", "ANG")])
    touch(tmp_path, [f"AudioWAV/1076_MTI_{word}_XX.wav" for word in ("NEU", "SAD", "ANG")])
    touch(tmp_path, ["AudioMP3/1076_MTI_ANG_XX.mp3"])
    found = scan.scan(tmp_path)
    assert [(clip.id[9:12], bool(clip.video), clip.audio.suffix) for clip in found.clips] == [
        ("ANG", True, ".wav"),
        ("NEU", False, ".wav"),
    ]
    assert found.clips[0].actor == 1076 and not found.actor_names
    assert {path.name for path, _ in found.unreadable} == {
        "1076_MTI_NEU_XX.flv",
        "1076_MTI_SAD_XX.flv",
        "1076_MTI_SAD_XX.wav",
    }


def test_an_mp3_of_crema_d_is_another_version_and_no_copy(tmp_path):
    touch(tmp_path, [f"{kind}/1001_DFA_ANG_XX.{kind}" for kind in ("wav", "mp3", "flv")])
    found = scan.scan(tmp_path)
    assert found.clips[0].audio.suffix == ".wav" and not found.duplicates
    touch(tmp_path, ["other/1001_DFA_ANG_XX.wav"])
    assert [path.parent.name for path, _ in scan.scan(tmp_path).duplicates] == ["wav"]
    (tmp_path / "wav/1001_DFA_ANG_XX.wav").unlink()
    (tmp_path / "other/1001_DFA_ANG_XX.wav").unlink()
    found = scan.scan(tmp_path)
    assert found.clips[0].audio.suffix == ".mp3" and not found.duplicates


def test_women_and_men_are_numbered_in_turn():
    subesco = known.CORPORA["subesco"].speakers
    assert [name[0] for name, _ in sorted(subesco.items(), key=lambda item: item[1])] == [
        *"FM" * 10
    ]
    assert iemocap.CORPUS.speakers["5M"] == 10


# Choosing


def test_two_corpora_in_a_folder_are_not_mixed(tmp_path):
    touch(
        tmp_path, ["a/01-01-04-01-01-01-05.mp4", "b/1001_DFA_ANG_XX.wav", "b/1002_DFA_ANG_XX.wav"]
    )
    with pytest.raises(InputError, match=r"got 1 files of ravdess, 2 files of crema_d; .*CORPUS="):
        scan.scan(tmp_path)
    assert len(scan.scan(tmp_path, corpus="crema_d").clips) == 2
    assert len(scan.scan(tmp_path / "a").clips) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channel": "speech"}, "expected no channel with CREMA-D"),
        ({"speaker": "(x)"}, "expected no rule for the speaker with CREMA-D"),
        ({"corpus": "folders"}, "expected a rule for the speaker"),
    ],
)
def test_options_that_do_not_apply(tmp_path, options, said):
    touch(tmp_path, ["1001_DFA_ANG_XX.wav"])
    with pytest.raises(InputError, match=said):
        scan.scan(tmp_path, **options)
    (tmp_path / "clips.csv").write_text("audio,emotion,actor\n1001_DFA_ANG_XX.wav,sad,1\n")
    with pytest.raises(InputError, match=r"expected no rule for the speaker with .*clips\.csv"):
        scan.scan(tmp_path, speaker="(x)")
    assert scan.scan(tmp_path, corpus="crema_d").clips[0].emotion == "angry"


# A folder for each emotion


def folder_corpus(root):
    touch(
        root,
        [
            "Happy/anna_01.wav",
            "Happy/anna_01.mp4",
            "Happy/ben_01.wav",
            "anger/anna_02.wav",
            "ben/Fear/03.mp4",
            "Pleasant Surprise/ben_04.wav",
            "readme/intro.mp4",
        ],
    )


def test_folders_of_emotions_need_a_rule_for_the_speaker(tmp_path, capsys):
    folder_corpus(tmp_path)
    with pytest.raises(InputError, match=r"expected a rule for the speaker .*SPEAKER=.*clips\.csv"):
        scan.scan(tmp_path)
    found = scan.scan(tmp_path, speaker="(?:^|/)(anna|ben)[_/]")
    assert [(clip.id, clip.actor, clip.emotion) for clip in found.clips] == [
        ("Happy/anna_01", 1, "happy"),
        ("anger/anna_02", 1, "angry"),
        ("Happy/ben_01", 2, "happy"),
        ("ben/Fear/03", 2, "fearful"),
    ]
    assert found.actor_names == {1: "anna", 2: "ben"}
    assert found.clips[0].video and found.clips[0].audio
    assert {path.name for path, _ in found.unreadable} == {"ben_04.wav", "intro.mp4"}


def test_labels_name_further_folders(tmp_path):
    folder_corpus(tmp_path)
    (tmp_path / "map.txt").write_text("pleasant surprise,surprised\n")
    found = scan.scan(tmp_path, labels=tmp_path / "map.txt", speaker="(anna|ben)")
    assert [clip.emotion for clip in found.clips if clip.id.startswith("Pl")] == ["surprised"]


def test_speakers_that_are_numbers_keep_them(tmp_path):
    touch(tmp_path, ["sad/s07_1.wav", "sad/s3_1.wav"])
    found = scan.scan(tmp_path, speaker=r"s(\d+)_")
    assert [clip.actor for clip in found.clips] == [3, 7] and not found.actor_names


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("(", "expected a regular expression"),
        ("anna", "expected a group"),
        ("(zoe)", r"expected a speaker by the rule '\(zoe\)', got none"),
    ],
)
def test_rules_that_cannot_be_used(tmp_path, rule, said):
    folder_corpus(tmp_path)
    with pytest.raises(InputError, match=said):
        scan.scan(tmp_path, speaker=rule)


def test_ravdess_names_in_folders_of_emotions_are_ravdess(tmp_path):
    touch(tmp_path, ["happy/03-01-03-01-01-01-05.wav"])
    assert scan.scan(tmp_path).corpus == "RAVDESS"


# A corpus of one's own, as the documentation adds one


def test_the_corpus_of_the_documentation(tmp_path):
    (code,) = re.findall(r"```python\n(import re.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    names = {}
    exec(compile(code, str(DOCS), "exec"), names)
    touch(tmp_path, ["p03-joy-2.wav", "p12-rage-1.wav", "p12-calm-1.wav"])
    found = scan.scan(tmp_path, corpus=names["CORPUS"])
    assert [(clip.id, clip.actor, clip.emotion) for clip in found.clips] == [
        ("p03-joy-2", 3, "happy"),
        ("p12-rage-1", 12, "angry"),
    ]
    assert found.actor_names == {3: "p03", 12: "p12"}
    assert [reason for _, reason in found.unreadable] == ["expected a name such as p03-joy-2"]


def test_the_documentation_lists_every_corpus():
    text = DOCS.read_text("utf-8")
    for name, corpus in known.CORPORA.items():
        assert re.search(rf"\| `{name}` \| {corpus.clips:,}, ", text), name
    assert f"| `{folders.NAME}` |" in text


# Real files of one frame, through the commands


def one_frame(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    encode.write_mp4(path, [(0.0, np.full((48, 64, 3), 90, np.uint8))], None, 16_000, crf=30)


def test_features_of_a_corpus_say_which_it_is(tmp_path, monkeypatch, capsys):
    raw = tmp_path / "raw"
    for take in ("1001_DFA_ANG_XX", "1002_IEO_SAD_HI"):
        write_wav(raw / f"AudioWAV/{take}.wav", 0.3 * np.sin(np.arange(16_000) / 9.0), 16_000)
        one_frame(raw / f"VideoFlash/{take}.mp4")
    words = ["features", "--raw", str(raw), "--cache", str(tmp_path / "cache"), "--jobs", "1"]
    arguments = command_line.parser().parse_args([*words, "--variants", "0"])
    assert arguments.run(arguments) == 0
    said = capsys.readouterr()
    assert "raw holds CREMA-D" in said.err and "2 clips, 2 rows" in said.out
    folder = next((tmp_path / "cache").glob("*/index.json")).parent
    assert {path.name[:10] for path in folder.glob("*.h5")} == {"actor-1001", "actor-1002"}
    assert build.join(folder).actors == [1001, 1002]


def test_list_shows_counts_and_names(tmp_path, capsys):
    touch(tmp_path, ["DC/a01.wav", "DC/a02.wav", "KL/n01.wav", "KL/n02.wav", "KL/n03.wav"])
    arguments = command_line.parser().parse_args(["list", "--raw", str(tmp_path)])
    assert arguments.run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["actor", *EMOTIONS, "all", "video", "audio"]
    assert lines[1].split() == ["1", "0", "0", "0", "0", "2", "0", "0", "0", "2", "0", "2", "DC"]
    assert lines[2].split() == ["4", "3", "0", "0", "0", "0", "0", "0", "0", "3", "0", "3", "KL"]
    assert lines[3].split() == ["all", "3", "0", "0", "0", "2", "0", "0", "0", "5", "0", "5"]
    assert lines[4].startswith("neutral has 3 clips, angry 2 (1.5 : 1); without calm, happy")
    assert "5 clips of 2 actors" in lines[5] and lines[5].endswith(
        "; SAVEE, 480 clips as published"
    )


def test_clips_are_counted_by_actor_and_emotion():
    clips = [
        Clip(str(number), actor, emotion, audio=Path("x"))
        for number, (actor, emotion) in enumerate([(7, "sad"), (2, "happy"), (7, "sad")])
    ]
    actors, counts = balance.count_clips(clips)
    assert actors == [2, 7] and counts.shape == (2, 8) and counts.dtype == np.int64
    expected = np.zeros((2, 8), int)
    expected[0, EMOTIONS.index("happy")] = 1
    expected[1, EMOTIONS.index("sad")] = 2
    np.testing.assert_array_equal(counts, expected)
    assert balance.count_clips([])[1].shape == (0, 8)
