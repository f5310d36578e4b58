from train.noun_kinds import derive_kinds
from train.wordnet import Nouns, ancestors, read_nouns

# Each synset: its lemmas, the more general synset, and its lexicographer's file. "set" is data and furniture.
SYNSETS = {
    "person": (("person",), None, "tops"), "animal": (("animal",), None, "tops"), "group": (("group",), None, "tops"),
    "body part": (("body part",), None, "body"), "thing": (("thing",), None, "artifact"),
    "clothing": (("clothing",), "thing", "artifact"), "headdress": (("headdress",), "thing", "artifact"),
    "footwear": (("footwear",), "thing", "artifact"), "hosiery": (("footwear",), "clothing", "artifact"),
    "jewelry": (("jewelry",), "thing", "artifact"), "spectacles": (("spectacles", "glasses"), "thing", "artifact"),
    "structure": (("structure",), "thing", "artifact"), "facility": (("facility",), "thing", "artifact"),
    "floor": (("floor",), "thing", "artifact"), "plant": (("plant",), None, "plant"),
    "grass": (("grass",), "plant", "plant"), "idea": (("idea",), None, "cognition"),
    "way": (("way",), "thing", "artifact"), "area": (("area",), "thing", "artifact"),
    "dog": (("dog", "Canis"), "animal", "animal"), "crowd": (("crowd",), "group", "group"),
    "paw": (("paw",), "body part", "animal"), "shorts": (("shorts",), "clothing", "artifact"),
    "glass": (("glass",), "thing", "artifact"), "data": (("set",), "group", "group"),
    "furniture": (("set", "table"), "thing", "artifact"), "lake": (("lake",), None, "object"),
    "house": (("house",), "structure", "artifact"), "London": (("London",), None, "location"),
}  # fmt: skip


def small_wordnet():
    senses = {}
    for synset, (lemmas, _, _) in SYNSETS.items():
        for lemma in lemmas:
            senses.setdefault(lemma.lower(), []).append(synset)
    # The derivation names these by the number of their sense.
    senses["way"] = ["idea"] * 5 + ["way"]
    senses["area"] = ["idea"] * 4 + ["area"]
    return Nouns(
        senses={lemma: tuple(synsets) for lemma, synsets in senses.items()},
        counted={},
        lemmas={synset: lemmas for synset, (lemmas, _, _) in SYNSETS.items()},
        hypernyms={synset: () if above is None else (above,) for synset, (_, above, _) in SYNSETS.items()},
        files={synset: file for synset, (_, _, file) in SYNSETS.items()},
    )


def test_kinds_follow_from_what_a_noun_is_under_and_where_it_is_filed():
    kinds = derive_kinds(small_wordnet())
    assert {noun: kinds.get(noun) for noun in ("dog", "crowd", "paw", "lake", "house", "grass", "idea")} == {
        "dog": "being", "crowd": "being", "paw": "part", "lake": "scene", "house": "scene", "grass": "scene",
        "idea": None,
    }  # fmt: skip


def test_a_noun_means_its_first_visible_sense():
    assert "set" not in derive_kinds(small_wordnet())  # furniture, and not a group of data


def test_a_noun_whose_plural_is_worn_is_a_part():
    kinds = derive_kinds(small_wordnet())
    assert kinds["short"] == "part"  # which is no noun itself
    assert kinds["glass"] == "part"


def test_names_and_compounds_are_left_out():
    assert not {"canis", "london", "body part"} & derive_kinds(small_wordnet()).keys()


def test_all_that_is_more_general_is_found():
    assert list(ancestors("hosiery", small_wordnet())) == ["clothing", "thing"]


def test_the_files_of_wordnet_are_read(tmp_path):
    (tmp_path / "index.noun").write_text("  1 licence\nhot_dog n 2 1 @ 2 1 00000002 00000001  \n")
    (tmp_path / "data.noun").write_text(
        "  1 licence\n00000002 13 n 02 hot_dog 0 Frank 0 001 @ 00000001 n 0000 | a sausage\n"
        "00000001 13 n 01 food 0 000 | what is eaten\n"
    )
    nouns = read_nouns(tmp_path)
    assert nouns.senses == {"hot dog": ("00000002", "00000001")}
    assert nouns.counted == {"hot dog": 1}
    assert nouns.lemmas["00000002"] == ("hot dog", "Frank")
    assert nouns.hypernyms == {"00000002": ("00000001",), "00000001": ()}
    assert nouns.files == {"00000002": "food", "00000001": "food"}
