from grounding.vocabulary import as_ranges
from train.imagenet_words import derive_words
from train.wordnet import Nouns

# animal -> dog -> (beagle, pug);  artifact -> crane (machine);  bird -> crane (bird)
NOUNS = Nouns(
    senses={
        "animal": ("1",), "dog": ("9", "2"), "beagle": ("3",), "pug": ("4",), "crane": ("5", "7"), "bird": ("6",),
        "rare": ("8", "9", "2"),
    },
    counted={},
    lemmas={
        "1": ("animal",), "2": ("dog", "rare"), "3": ("beagle",), "4": ("pug",), "5": ("crane",), "6": ("bird",),
        "7": ("crane",),
    },
    hypernyms={"1": (), "2": ("1",), "3": ("2",), "4": ("2",), "5": (), "6": ("1",), "7": ("6",)},
    files=dict.fromkeys("1234567", "animal"),
)  # fmt: skip


def test_a_word_means_its_classes_and_those_below_it():
    words = derive_words(NOUNS, ["3", "4", "5", "7"])
    assert words["beagle"] == [0]
    assert words["dog"] == [0, 1]
    assert words["animal"] == [0, 1, 3]
    assert words["crane"] == [2, 3]  # named by both
    assert "rare" not in words  # dog is its third sense


def test_synonyms_follow_their_word():
    assert derive_words(NOUNS, ["3", "4", "5", "7"])["puppy"] == [0, 1]


def test_runs_of_units_are_written_as_ranges():
    assert as_ranges([9, 3, 4, 5]) == "3-5 9"
    assert as_ranges([]) == ""
