"""Help texts: what each screen shows, what its signs mean, and the words on it."""

from __future__ import annotations

from dataclasses import dataclass

from mlxprune_tui.shell.keys import READER


@dataclass(frozen=True)
class ScreenHelp:
    """``about`` in a paragraph; ``signs`` as (sample, style, meaning); ``words`` as (word,
    meaning)."""

    about: str
    signs: tuple[tuple[str, str, str], ...] = ()
    words: tuple[tuple[str, str], ...] = ()


BITS = (
    "bits per byte",
    "how many bits a model needs for a byte of text it has not seen; lower is better",
)
CONTROL = ("control", "a model that is trained on as much text, chosen blind")
PASS = ("pass", "once over the text that an arm trains on; repeated text teaches less each time")
MEMORISING = (
    "memorising",
    "the text is repeated and validation has risen above its best: the model learns the text by "
    "heart and is no longer better on other text",
)
SETTLED = (
    "settled to",
    "half of the 95 % interval of the edge: how far it can still move, by chance, from here",
)
NATS = ("nats", "natural units of log-perplexity; 1 nat is 1.44 bits")

HELP: dict[str, ScreenHelp] = {
    "overview": ScreenHelp(
        "The run as a whole. The first line answers what matters now: how far, until when, and "
        "when it "
        "is done, whether the slice was worth it. Below are a picture of the stage in hand, "
        "the stages, "
        "and what needs attention.",
        (
            ("✓", "good", "a stage that is done"),
            ("=", "good", "made in an earlier start and unchanged"),
            ("▶", "good", "at work"),
            ("✗", "bad", "failed, or its process is dead"),
        ),
        (
            ("running, slow, stale", "its process lives; slow after 30 s without a word, stale "
                                     "after "
             "180 s"),
            ("crashed", "the process of the run is dead, without an error"),
            ("ends", "the stage by its rate so far; later stages by their work at that pace, "
                     "from 0.7 "
             "to 1.8 of it"),
            ("safe to leave?", "what could end a run that is left alone: power, disk, memory, "
                               "heat"),
            CONTROL,
            BITS,
        ),
    ),
    "scoring": ScreenHelp(
        "How hard the reference model finds each document. Bars grow as documents are scored. "
        "Finished "
        "documents are a random sample of the pool at any moment, so the picture may be "
        "trusted early; "
        "those in hand stand light on top of them, long ones first.",
        (
            ("█", "kept", "would be kept"),
            ("▓", "dropped", "would be dropped"),
            ("░", "provisional", "in hand: not finished, and no fair sample"),
            ("┄", "ghost", "how the bars stood a minute ago"),
            ("[==]", "kept", "the band that is kept"),
        ),
        (
            ("log-perplexity", "mean negative log-likelihood of a document's tokens"),
            NATS,
            SETTLED,
            ("p10, p50, p90", "a tenth, half, nine tenths of the documents lie below"),
            ("▲ after a domain", "it keeps less than a fifth of what the slice keeps of all"),
            ("of hour 1", "the rate of late over that of the first hour: under 1, the machine is "
             "slower now"),
            ("ranks", "how alike the reference orders documents at its last two validations; "
                      "near 1 "
             "they have settled"),
        ),
    ),
    "selection": ScreenHelp(
        "What if another slice were kept? Keys, or the mouse on the edges, change the slice; "
        "what it "
        "keeps, costs and reads like follows at once. The run itself is never changed. Enter "
        "starts a "
        "run with it, w writes its configuration.",
        (
            ("█", "kept", "kept by this what-if"),
            ("▓", "dropped", "dropped"),
            ("┄", "ghost", "edge of the run's own slice"),
        ),
        (
            ("passes", "how often the text is repeated to fill the targets"),
            ("worth", "fresh tokens that would teach as much, as the repeat law predicts"),
            ("targets", "tokens that a model is trained to predict"),
            ("A", "a what-if that is held; its overlap with this one is the share of kept "
                  "documents "
             "that both keep"),
            ("of its", "the share of a domain that is kept"),
        ),
    ),
    "training": ScreenHelp(
        "Every model of the study as a grid, the curve of the one that is chosen, and below it "
        "what "
        "each pass over its text did. Train falls as long as the model learns or memorises; "
        "validation "
        "on other text tells which.",
        (
            ("●", "train", "train: bits per byte of the text that it trains on"),
            ("╌", "valid", "validation: of text that it never sees"),
            ("▼", "good", "the best validation"),
            ("▲", "bad", "validation is above its best"),
        ),
        (
            PASS,
            MEMORISING,
            ("gap", "validation minus train; its change tells, its level depends on the text"),
            ("law: worth", "what a token of this pass is worth of a fresh one (Muennighoff et al. "
             "2023)"),
            BITS,
        ),
    ),
    "compare": ScreenHelp(
        "Did the slice help, how sure is that, and where does it come from? Each row is an arm "
        "minus "
        "its control with its 95 % interval; the row that is chosen is taken apart below. Left "
        "of zero "
        "is better.",
        (
            ("├●┤", "arm-pruned", "a slice minus its random control"),
            ("├◇┤", "arm-matched", "the mix of domains and lengths alone"),
            ("┈", "noise", "how far the control moves from seed to seed"),
            ("▼ ▲ ~", "", "better, worse, undecided"),
        ),
        (
            CONTROL,
            ("matched", "a control with the slice's mix of domains and lengths, chosen blind: "
                        "what is "
             "left after it is the choice within them"),
            ("macro", "the mean over domains, each counting the same"),
            ("few texts", "too few test documents for a verdict, however wide the interval is"),
            ("one seed", "a difference of one pair of models: how much is chance is not known"),
            ("interval", "with 95 % the true difference lies in it"),
            BITS,
        ),
    ),
    "documents": ScreenHelp(
        "Every document of the pool with its score, kept or dropped. / filters: domain:code nll>4 "
        "ppl<90 tokens>100 kept dropped; other words are looked for in the text, !word leaves out. "
        "Enter reads one.",
        (("K", "kept", "kept by the slice in the title"), ("D", "dim", "dropped by it")),
        (NATS, ("perplexity", "e to the power of the log-perplexity")),
    ),
    READER: ScreenHelp(
        "One document, all of it. What is invisible or would reorder a line is written out, as in "
        "\\u202e; what joins letters of a script stays. v shades every token by what it costs the "
        "reference.",
        tuple(
            (f" {n} ", f"heat{n}", told)
            for n, told in enumerate(
                ("under 1 nat: expected", "1 to 2.5", "2.5 to 4.5", "4.5 to 7", "7 to 10: "
                                                                                "surprising",
                 "over 10")
            )
        ),
        (NATS,),
    ),
    "runs": ScreenHelp(
        "Every run under a folder: how it stands, which slice, how many seeds and passes, and "
        "what came "
        "out. Enter opens one; m marks some, whose arms Compare then holds side by side.",
        (("o", "", "open now"), ("*", "", "marked"), ("▲", "bad", "one of its models memorises")),
        (("verdict", "slice minus random control in bits per byte: below zero the slice is "
                     "better"),),
    ),
}  # fmt: skip
