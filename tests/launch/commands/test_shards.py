"""`emojigan shards` says what it did, and in one line what the user must do."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from emojigan.launch.cli import main


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["shards", *map(str, words)])


def assert_refused(result: Result, message: str) -> None:
    """One line that says why, and exit code 2; never a traceback."""
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    line = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(line) == 1 and result.stderr.endswith(line[0] + "\n")
    assert message in line[0]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A dataset with every kind of post, and what its building said."""
    folder = tmp_path_factory.mktemp("cli")
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "bad.png").write_bytes(b"no picture")
    posts = [{"id": n, "account": "Ann", "image": f"{n}.png", "text": "🔥 ❤️"} for n in range(6)]
    posts += [{"id": "x", "image": "no.png", "text": "🔥"}, {"id": "y", "image": "bad.png", "text": "🔥"}]
    posts += [{"id": 0, "image": "0.png", "text": "🍕"}, {"id": "z", "image": "0.png", "text": "nothing"}]
    posts += [{"id": "w", "account": "Eve", "image": "0.png", "text": "🔥"}]
    posts += [{"id": "v", "account": "Bob", "image": "0.png", "text": "🔥 🍕 spam"}]
    (folder / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts) + "{\n")
    (folder / "deny.txt").write_text("# us\n@eve\nspam\n")
    return folder, run("build", folder / "posts.jsonl", "--out", folder / "shards", *words(folder))


def words(folder: Path) -> list[str]:
    options = f"--max-bad 0.5 --min-count 1 --val-share 0 --test-share 0 --workers 1 --deny {folder}/deny.txt"
    return options.split()


def test_build_ends_well_with_the_statistics(built):
    folder, result = built
    assert result.exit_code == 0, result.output
    assert result.stdout == run("stats", folder / "shards").stdout


def test_stats_tell_rejects_by_reason(built):
    folder, _ = built
    text = run("stats", folder / "shards").stdout
    assert "posts: 13 read, 6 used\n" in text
    bars = {line[2:].split("  ")[0].strip(): line.count("█") for line in text.splitlines() if "█" in line}
    reasons = ["broken line", "denied account", "denied word", "duplicate id", "missing image"]
    for reason in (*reasons, "unreadable image", "without emoji"):
        assert bars[reason] == 30


def test_stats_tell_the_skew_of_the_vocabulary(built):
    folder, _ = built
    text = run("stats", folder / "shards").stdout
    assert "of the tuples in train: top 1 50%, top 10 100%, top 100 100%\n" in text


def test_stats_as_json_have_the_same_figures(built):
    folder, _ = built
    figures = json.loads(run("stats", folder / "shards", "--json").stdout)
    train = figures["splits"]["train"]
    assert (train["images"], train["tuples"], train["tuples_per_image"]) == (6, 12, 2.0)
    assert train["bytes"] == (folder / "shards/train/000000.tar").stat().st_size
    assert train["bytes_per_image"] == train["bytes"] / 6
    assert figures["vocabulary"]["counts"] == {"❤": 6, "🔥": 6}
    assert figures["vocabulary"]["effective"] == pytest.approx(2)
    assert figures["rejects"]["missing image"] == 1 and figures["posts"] == {"read": 13, "used": 6}


def test_stats_tell_who_was_forgotten(built, tmp_path):
    copy = shutil.copytree(built[0] / "shards", tmp_path / "shards")
    assert run("forget", copy, "--account", "Ann", "--workers", "1").exit_code == 0
    text = run("stats", copy).stdout
    assert "forgotten since: 1 accounts, with 6 images, 12 tuples, 6 posts\n" in text
    assert "posts: 13 read, 0 used, 6 forgotten\n" in text


def test_stats_show_emojis_as_fonts_draw_them(built):
    folder, _ = built
    text = run("stats", folder / "shards").stdout
    assert "❤️ " in text and "2 emojis, as varied as 2.0 equally frequent ones" in text


def test_stats_name_the_dataset_and_its_splits(built):
    folder, _ = built
    first, train, val, test, *_, last = run("stats", folder / "shards").stdout.splitlines()
    names = ["split", "shards", "images", "tuples", "outside", "MiB", "tuples/image", "bytes/image"]
    assert first.split() == names
    assert train.split()[:5] == ["train", "1", "6", "12", "0"]
    assert [line.split()[:5] for line in (val, test)] == [["val", *"0000"], ["test", *"0000"]]
    assert last.endswith(", npy, 64 pixels")


def test_stats_part_the_tuples_of_the_vocabulary_from_those_outside(built, tmp_path):
    folder, _ = built
    rare = [*words(folder), "--min-count", "7"]
    posts = (folder / "posts.jsonl").read_text().splitlines()[:6]
    posts += [json.dumps({"id": "u", "account": "Ann", "image": "0.png", "text": "🔥"})]
    (folder / "rare.jsonl").write_text("\n".join(posts) + "\n")
    text = run("build", folder / "rare.jsonl", "--out", tmp_path / "out", *rare).stdout
    assert text.splitlines()[1].split()[3:5] == ["7", "6"]  # the six of ❤️ are rarer than --min-count
    assert "tuples: those with an emoji of the vocabulary; outside: those with a rarer one" in text


def test_emojis_that_the_export_garbled_are_told_apart_and_an_example_is_named(built, tmp_path):
    folder, _ = built
    texts = ["🔥", "&#128514;", ":joy:", r"\ud83d\ude02", "ðŸ˜‚", "none"]
    posts = [{"id": f"p{n}", "image": f"{n}.png", "text": text} for n, text in enumerate(texts)]
    for number in range(6):
        shutil.copy(folder / f"{number}.png", tmp_path)
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    result = run("build", tmp_path / "posts.jsonl", "--out", tmp_path / "shards", *words(folder))
    assert "4 posts have no emoji, but something that was one" in result.stderr
    assert "The first is post p1." in result.stderr
    counts = json.loads(run("stats", tmp_path / "shards", "--json").stdout)["rejects"]
    assert counts == {"emojis as escapes or mojibake": 4, "without emoji": 1}
    assert "emojis as escapes or mojibake" in result.stdout


def test_build_over_another_dataset_is_refused(built):
    folder, _ = built
    for other in ((), (*words(folder), "--text", "caption,comments")):
        result = run("build", folder / "posts.jsonl", "--out", folder / "shards", *other)
        assert_refused(result, "already holds a dataset")


def test_same_command_again_says_that_all_is_done(built):
    folder, result = built
    again = run("build", folder / "posts.jsonl", "--out", folder / "shards", *words(folder))
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    assert "complete" in again.stderr


def test_what_is_denied_is_in_no_file(built):
    folder, _ = built
    files = [path for path in (folder / "shards").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert not any(word in path.read_bytes() for word in (b"spam", b"eve", b"Eve"))


def test_build_onto_a_file_is_refused(built):
    folder, _ = built
    assert_refused(run("build", folder / "posts.jsonl", "--out", folder / "0.png"), "is a file")
    assert (folder / "0.png").is_file()


def test_too_many_bad_posts_are_refused(built, tmp_path):
    folder, _ = built
    result = run("build", folder / "posts.jsonl", "--out", tmp_path / "out", "--max-bad", "0.005")
    assert_refused(
        result,
        "1 of 13 posts are bad (1 broken line), more than --max-bad 0.005 allows: posts.jsonl:13: broken "
        "line.",
    )
    assert not (tmp_path / "out").exists()


def test_reasons_of_too_many_bad_posts_are_counted(built, tmp_path):
    folder, _ = built
    result = run(
        "build", folder / "posts.jsonl", "--out", tmp_path / "out", "--max-bad", "0.2", "--workers", "1"
    )
    reasons = "1 broken line, 1 duplicate id, 1 missing image, 1 unreadable image"
    assert_refused(
        result, f"4 of 13 posts are bad ({reasons}), more than --max-bad 0.2 allows: post x: missing"
    )
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_posts_without_enough_emojis_are_refused(built, tmp_path):
    folder, _ = built
    few = ["--max-bad", "1", "--min-count", "99", "--workers", "1"]
    result = run("build", folder / "posts.jsonl", "--out", tmp_path / "out", *few)
    lost = "1 without emoji, 1 broken line, 1 duplicate id, 1 missing image, 1 unreadable image"
    assert_refused(
        result,
        "No emoji comes 99 times in train: the most frequent comes 7 times. Of 13 posts 8 are used, and "
        f"{lost}. Add posts, or lower --min-count to 7 at most.",
    )


@pytest.mark.parametrize(
    "source, message", [("nowhere.jsonl", "no such file"), ("posts.parquet", "no such file")]
)
def test_what_is_no_table_is_refused(tmp_path, source, message):
    assert_refused(run("build", tmp_path / source, "--out", tmp_path / "out"), message)


def test_stats_of_no_dataset_are_refused(tmp_path):
    assert_refused(run("stats", tmp_path), "is not a dataset (no manifest.json)")


@pytest.mark.parametrize(
    "option",
    [
        *(
            ("--image-size", "63"),
            ("--images-per-shard", "0"),
            ("--images-per-shard", "1000001"),
            ("--max-bad", "2"),
            ("--workers", "0"),
        ),
        *(
            ("--text", "titles"),
            ("--text", ""),
            ("--repeat", "twice"),
            ("--column", "text"),
            ("--engine", "dask"),
        ),
        *(("--task-index", "1"), ("--task-count", "0"), ("--deny", "no.txt")),
    ],
)
def test_option_out_of_its_range_is_refused(tmp_path, option):
    assert_refused(run("build", tmp_path / "posts.csv", "--out", tmp_path / "out", *option), option[0])


def test_help_of_build_names_every_option_and_default():
    text = run("build", "--help").stdout
    for option in (
        "--out",
        "--image-size",
        "--encoding",
        "--images-per-shard",
        "--min-count",
        "--keep-variants",
    ):
        assert option in text
    for option in ("--val-share", "--test-share", "--max-bad", "--workers", "--deny", "--text", "--repeat"):
        assert option in text
    for option in ("--format", "--column", "--engine", "--task-index", "--task-count"):
        assert option in text
    assert "[default: 1024" in text and "[default: npy]" in text


def test_help_of_the_group_names_its_commands():
    text = run("--help").stdout
    for command in ("build", "adopt", "verify", "stats", "forget"):
        assert command in text


def test_pipe_among_the_images_is_counted_and_keeps_nobody_waiting(tmp_path):
    Image.new("RGB", (64, 64), (0, 99, 0)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "posts.csv").write_text("id,image,text\n1,a.png,🔥\n2,b.png,🔥\n", encoding="utf-8")
    words = ["--max-bad", "1", "--min-count", "1", "--val-share", "0", "--test-share", "0", "--workers", "1"]
    result = run("build", tmp_path / "posts.csv", "--out", tmp_path / "out", *words)
    assert result.exit_code == 0 and "1 used" in result.stdout and "unreadable image" in result.stdout


def test_empty_place_is_refused(tmp_path):
    (tmp_path / "posts.csv").write_text("id,image,text\n")
    assert_refused(run("build", tmp_path / "posts.csv", "--out", ""), "is empty")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_disk_that_takes_no_more_is_told_with_the_place(posts_folder, tmp_path, workers):
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "from emojigan.launch.cli import main; main()"
    )
    words = ["shards", "build", str(posts_folder / "posts.jsonl"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", limited, *words, "--workers", workers], capture_output=True, text=True
    )
    last = done.stderr.splitlines()[-1]
    advice = "Free space there, or use another place (--out, --cache, or TMPDIR)."
    told = f"Error: {tmp_path}/out/.build/000000.members: File too large. {advice}"
    assert (done.returncode, last) == (2, told)
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_output_inside_a_source_is_refused(built):
    folder, _ = built
    assert_refused(run("build", folder, "--format", "table", "--out", folder / "new"), "lies in")


def test_dataset_in_a_folder_below_does_not_make_foreign_tars_ours(built, tmp_path):
    folder, _ = built
    shutil.copytree(folder / "shards", tmp_path / "out" / "old")
    (tmp_path / "out" / "notes.tar").write_bytes(b"mine")
    assert_refused(run("build", folder / "posts.jsonl", "--out", tmp_path / "out"), "something else")


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": "64"},
        {"image_size": 10**9},
        {"encoding": "exe"},
        {"vocabulary": ["😍"]},
        {"vocabulary": {"😍": "9"}},
        {"posts": [1]},
        {"options": None},
        {"history": ["a"]},
        {"shards": [{"name": 5}]},
        {"vocabulary": {"😍": -9}},
    ],
)
@pytest.mark.parametrize("command", ["stats", "verify"])
def test_manifest_of_another_shape_is_refused_in_a_line(built, tmp_path, command, change):
    folder, _ = built
    content = json.loads((folder / "shards" / "manifest.json").read_text(encoding="utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps(content | change))
    assert_refused(run(command, tmp_path), "damaged")


def test_manifest_nested_without_end_is_refused_in_a_line(tmp_path):
    (tmp_path / "manifest.json").write_text("[" * 200_000)
    assert_refused(run("stats", tmp_path), "damaged")
