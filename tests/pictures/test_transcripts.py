"""The page of transcripts: it needs nothing but itself, shows text as text, and each token's entropy as a colour."""

from __future__ import annotations

import dataclasses
import math
import re
from html.parser import HTMLParser

import pytest

from maxent_rl.errors import StorageError
from maxent_rl.pictures.transcripts import Group, transcripts_page, write_transcripts
from maxent_rl.playing.transcripts import Token, Transcript, Turn

EVIL = '"><script>alert(1)</script><img src=x>'


def spelled(text, entropy):
    letters = [Token(letter, "character", math.log(0.25), entropy) for letter in text]
    return (*letters, Token("", "end", math.log(0.5), 0.0))


TRANSCRIPT = Transcript(
    prompt="0417:1=",
    turns=(Turn(spelled("?", 0.0), "4", 0.0), Turn(spelled("!4", math.log(16) / 2), "", 1.0)),
    ending="Episode 0 was ended in turn 1.",
    vocabulary_size=16,
)


class Reader(HTMLParser):
    """Tags with their attributes, words, and that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_loads_nothing_and_shows_every_turn():
    text = transcripts_page(
        "Transcripts", "after 7 steps", [Group("seed 0", [TRANSCRIPT]), Group("seed 1", [TRANSCRIPT])]
    )
    reader = Reader(text)
    tags = [tag for tag, _ in reader.tags]
    assert not {"script", "link", "iframe", "img", "a"} & set(tags)
    assert not re.search(r"url\(|@import|https?:", text)
    assert all(not name.startswith("on") and name not in ("src", "href") for _, each in reader.tags for name in each)
    assert any(each.get("content", "").startswith("default-src 'none'") for _, each in reader.tags)
    assert "width=device-width" in text and "prefers-color-scheme: dark" in text
    assert tags.count("article") == 2 and tags.count("li") == 2 * 4  # the prompt, a turn, a reply, a turn
    words = " ".join(reader.words)
    for expected in (
        "seed 1",
        "mean return 1",
        "reward 1, 0.92 nats a token",
        "Episode 0 was ended in turn 1.",
        "0417:1=",
    ):
        assert expected in words


def test_a_tokens_colour_is_its_share_of_the_largest_entropy():
    reader = Reader(transcripts_page("Transcripts", "", [Group("seed 0", [TRANSCRIPT])]))
    tokens = [each for _, each in reader.tags if "token" in each.get("class", "").split() and "title" in each]
    shares = [float(each["style"].removeprefix("--unsure:")) for each in tokens]
    assert shares == [0.0, 0.0, 0.5, 0.5, 0.0]
    assert tokens[2]["title"] == f"{math.log(16) / 2:.3f} nats, probability 0.250"
    assert [each["class"] for each in tokens] == ["token", "token mark", "token", "token", "token mark"]


def test_text_stays_text_and_a_reward_that_is_none_is_said():
    turn = Turn((Token("<", "character", -1.0, 99.0), Token("", "padding", -1.0, 0.0)), EVIL, math.nan)
    evil = dataclasses.replace(TRANSCRIPT, prompt=EVIL, turns=(turn,), ending=EVIL)
    reader = Reader(transcripts_page(EVIL, EVIL, [Group(EVIL, [evil])]))
    assert not {"script", "img"} & {tag for tag, _ in reader.tags}
    words = "".join(reader.words)
    assert words.count(EVIL) == 7  # title, heading, details, group, prompt, reply, ending
    assert "return none" in words and "padding" in words
    assert "--unsure:1.000" in {each.get("style") for _, each in reader.tags}


def test_the_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "pages" / "transcripts.html"
    assert write_transcripts(path, "t", "d", [Group("seed 0", [TRANSCRIPT])]) == path
    assert path.read_text().startswith("<!doctype html>") and list(path.parent.iterdir()) == [path]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Cannot write"):
        write_transcripts(tmp_path / "file" / "page.html", "t", "d", [Group("seed 0", [TRANSCRIPT])])
