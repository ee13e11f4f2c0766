"""Posts to a dataset of shards.

    posts ─► survey: how many, and their hashes
          ─► chunks ─► digest_chunk, in workers ─► parts in .build/
                       plan_shards, here
                       write_shard, in workers ─► tars, indexes, statistics
          ─► rejects.jsonl ─► manifest, last

The bytes are the same for any number of workers, on any engine, and for any tasks of a job array. A file
appears under its name only when it is complete; a build that was killed goes on where it stopped when the
same command is run again.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..emojis.text import CANONICAL_VERSION
from ..errors import InputError
from ..posts.limits import too_bad
from ..posts.outcomes import BROKEN_FILES, DISGUISED_EMOJIS, DUPLICATE_ID, LEFT_OUT, USED
from ..posts.post import Reject
from ..printable import printable
from ..shards.layout import BEGUN, BUILD_FOLDER, MANIFEST, REJECTS, index_name, is_begun, leftovers
from ..shards.manifest import SPLIT_BY, Manifest, ShardEntry, read_manifest, split_by_count, write_manifest
from ..shards.vocabulary import why_empty
from ..store.folder import Folder
from ..store.lock import writing
from ..work.processes import Mapper, mapper
from ..work.progress import progress
from .digest import Chunk, digest_chunk
from .options import BuildOptions
from .parts import has_part, read_part
from .plan import Digest, Plan, check_folds, plan_shards
from .shard import ShardStatistics, write_shard
from .survey import Source, Survey, survey_posts

COMMAND = "shards build"
HOPELESS = 100  # bad posts before a build may be given up early
CROWD = 100  # images that look like one, where they are one of CROWD, too: hardly photographs


@dataclass(frozen=True)
class Task:
    """Which share of the chunks a process digests: every `count`-th, from `index` on."""

    index: int = 0
    count: int = 1


WHOLE = Task()


def build_shards(
    source: Source,
    folder: Folder,
    options: BuildOptions,
    *,
    max_bad: float,
    skip_broken: Collection[int | str] = (),
    workers: int,
    engine: str = "local",
    task: Task = WHOLE,
) -> Manifest | None:
    """Build a dataset, or go on building it, or find it complete.

    Args:
        folder: becomes a dataset when its manifest.json is there.
        max_bad: the share of the posts that may be rejected, 0 to 1.
        skip_broken: broken files to go on without, see `check_broken`.
        workers, engine: who does the work, see `mapper`; the bytes do not depend on it.
        task: this process's share of a job array's work.

    Returns:
        The manifest; None when chunks of other tasks are still to come.

    Raises:
        InputError: broken files, too many rejects, nothing to train on, another dataset is in the way, or
            somebody else writes there.
    """
    _check_apart(source, folder)
    existing = _existing(folder, options)  # which may refuse, before the posts are read
    survey = survey_posts(source, options, max_bad, skip_broken)
    if existing:
        return _complete(existing, survey, folder)
    if task.count > 1:
        with mapper(engine, workers) as run:
            return _build_share(run, source, folder, options, survey, max_bad, task)
    with writing(folder, COMMAND) as folder:
        if existing := _existing(folder, options):
            return _complete(existing, survey, folder)
        _begin(folder, options, survey, task)
        with mapper(engine, workers) as run:
            digests = _digest_all(run, folder, options, source.chunks(), survey.num_entries, max_bad)
            return _assemble(run, folder, options, survey, digests, max_bad)


def _build_share(
    run: Mapper,
    source: Source,
    folder: Folder,
    options: BuildOptions,
    survey: Survey,
    max_bad: float,
    task: Task,
) -> Manifest | None:
    """Digest a task's share of the chunks; if no other is left, write the shards."""
    _begin(folder, options, survey, task)
    own = (chunk for chunk in source.chunks() if chunk.number % task.count == task.index)
    share = survey.num_entries // task.count
    for _ in _digest_all(run, folder, options, own, share, max_bad):
        pass
    to_come = sum(not each for each in run(partial(has_part, folder), enumerate(survey.fingerprints)))
    if to_come and not folder.size(MANIFEST):  # else another task was faster, and has removed the parts
        print(
            f"This task is done. Of {len(survey.fingerprints)} chunks of posts {to_come} are still to come, "
            "from other tasks; the last of them writes the shards.",
            file=sys.stderr,
        )
        return None
    with writing(folder, COMMAND, wait=True) as folder:
        if existing := _existing(folder, options):
            return _complete(existing, survey, folder)
        digests = _digest_all(run, folder, options, source.chunks(), survey.num_entries, max_bad)
        return _assemble(run, folder, options, survey, digests, max_bad)


def _begin(folder: Folder, options: BuildOptions, survey: Survey, task: Task) -> None:
    """Note what is built, by how many tasks: these have no lock while they digest.

    Raises:
        InputError: others build from other posts or options, or may still do.
    """
    about = hashlib.sha256(repr((options.to_json(), survey.content)).encode()).hexdigest()
    if folder.swap(BEGUN, None, json.dumps({"build": about, "tasks": task.count})):
        return
    old = folder.read(BEGUN)
    other = json.loads(old)
    if other["build"] == about and other["tasks"] >= task.count:
        return
    if other["build"] != about and max(other["tasks"], task.count) > 1:
        raise InputError(
            f"{folder} was begun from other posts or options, and tasks of a job array may still be building "
            f"it. Choose another --out; or, if nothing writes there any more, remove {folder}/{BUILD_FOLDER}."
        )
    if not folder.swap(BEGUN, old, json.dumps({"build": about, "tasks": task.count})):
        raise InputError(f"{folder} was begun by somebody else at the same time. Run the same command again.")


def _check_apart(source: Source, folder: Folder) -> None:
    """Refuse an output inside a source: the next run would take it for posts."""
    out = folder.path.resolve() if folder.path is not None else None
    for path in source.paths:
        if out and path.is_dir() and path.resolve() in (out, *out.parents):
            raise InputError(f"{folder} lies in {path}, which is read. Choose another --out.")


def _existing(folder: Folder, options: BuildOptions) -> Manifest | None:
    """The manifest of a finished dataset of these options. Raises InputError when something is in the way."""
    if folder.path is not None and folder.path.is_file():
        raise InputError(f"{folder} is a file. Choose another --out.")
    if folder.size(MANIFEST) is not None:
        manifest = read_manifest(folder)
        if options.made(manifest):
            return manifest
        raise InputError(_other_dataset(folder))
    names = folder.names()
    if not is_begun(names) and any(name.endswith(".tar") for name in names):
        raise InputError(
            f"{folder} holds tars of something else, which would be replaced. Choose another --out."
        )
    return None


def _complete(manifest: Manifest, survey: Survey, folder: Folder) -> Manifest:
    if (manifest.options.get("source"), manifest.canonical_version) != (survey.content, CANONICAL_VERSION):
        raise InputError(_other_dataset(folder))
    folder.remove_folder(BUILD_FOLDER)
    print(printable(f"{folder} holds this dataset already, complete."), file=sys.stderr)
    return manifest


def _other_dataset(folder: Folder) -> str:
    return (
        f"{folder} already holds a dataset, of other posts or options. Choose another --out, or remove it "
        "first."
    )


def _digest_all(
    run: Mapper,
    folder: Folder,
    options: BuildOptions,
    chunks: Iterable[Chunk],
    num_entries: int,
    max_bad: float,
) -> Iterator[Digest]:
    """Digest chunks, in their order. Raises InputError early, once far more are bad than --max-bad allows."""
    bad: Counter[str] = Counter()
    seen = disguised = 0
    example = ""
    with progress(num_entries, "posts", "posts") as bar:
        for digest in run(partial(digest_chunk, folder, options), chunks):
            seen += len(digest.outcome)
            bar.update(len(digest.outcome))
            for reason, count in zip(digest.reasons, np.bincount(digest.outcome), strict=False):
                if reason not in (USED, *LEFT_OUT, *BROKEN_FILES):
                    bad[reason] += int(count)
                if reason == DISGUISED_EMOJIS:
                    disguised += int(count)
                    row = int(np.argmax(digest.outcome == digest.reasons.index(reason)))
                    example = example or read_part(folder, digest.chunk).where(row)
            if bad.total() > max(HOPELESS, 2 * max_bad * seen):
                raise too_bad(bad, seen, max_bad, rejects_of(folder, (digest.chunk, [])))
            yield digest
    if disguised:
        print(
            f"{disguised} posts have no emoji, but something that was one before it was exported: &#128514;, "
            f":joy:, \\ud83d\\ude02 or ðŸ˜‚. They are left out. The first is {printable(example)}.",
            file=sys.stderr,
        )


def _assemble(
    run: Mapper,
    folder: Folder,
    options: BuildOptions,
    survey: Survey,
    digests: Iterable[Digest],
    max_bad: float,
) -> Manifest:
    """Plan and write the shards of digested posts."""
    plan = plan_shards(digests, options)
    if (plan.posts["read"], plan.broken) != (survey.num_posts, survey.broken):
        raise InputError("The posts changed while they were read. Run the same command again.")
    if options.folds:
        check_folds(plan, options.folds)
    _tell_crowd(folder, plan)
    first = _write_rejects(run, folder, plan)
    if plan.bad.total() > max_bad * survey.num_posts:
        raise too_bad(plan.bad, survey.num_posts, max_bad, first, f" All: {folder}/{REJECTS}.")
    if plan.why_split:
        print(f"{plan.why_split} Split {SPLIT_BY[plan.split_by]}.", file=sys.stderr)
    statistics = []
    with progress(sum(task.images for task in plan.tasks), "shards", "images") as bar:
        for result in run(partial(write_shard, folder, options), plan.tasks):
            statistics.append(result)
            bar.update(result.images)
    manifest = manifest_of(plan, statistics, options, survey)
    if not manifest.vocabulary:
        raise InputError(why_empty(manifest))
    for name in leftovers(folder.names(), {task.name for task in plan.tasks}):
        folder.remove(name)  # of killed or other builds: `*.tar` would find them, too
    write_manifest(manifest, folder)
    folder.remove_folder(BUILD_FOLDER)
    return manifest


def _tell_crowd(folder: Folder, plan: Plan) -> None:
    """Say so when very many images look like one, all of which go to one split."""
    size, chunk, row = plan.crowd
    used = sum(len(task.samples) for task in plan.tasks)
    if size >= CROWD and size * CROWD >= used:
        part = read_part(folder, chunk)
        where = printable(part.where(part.post[row]))
        print(
            f"{size} images look like that of {where}, and stay in one split only. "
            "If it stands for images that are missing, leave these posts out.",
            file=sys.stderr,
        )


def _write_rejects(run: Mapper, folder: Folder, plan: Plan) -> list[Reject]:
    """Write every reject, in the order of the source, to rejects.jsonl; return the first three."""
    first: list[Reject] = []
    if not plan.rejects:
        folder.remove(REJECTS)
        return first
    with folder.creating(REJECTS) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for rejects in run(partial(rejects_of, folder), plan.rejects):
            first += rejects[: 3 - len(first)]
            file.writelines(each.to_json() for each in rejects)
    return first


def rejects_of(folder: Folder, chunk: tuple[int, list[int]]) -> list[Reject]:
    """The rejects of a chunk: its bad posts, then the bad images of others.

    Args:
        chunk: its number, and the rows of posts whose id an earlier post had.
    """
    number, duplicates = chunk
    part = read_part(folder, number)
    rejects = []
    for row, outcome in enumerate(part.outcome):
        reason = DUPLICATE_ID if row in duplicates else part.reasons[outcome]
        if reason not in (USED, *LEFT_OUT):
            rejects.append(Reject(part.where(row), reason))
    return rejects + [Reject(f"{part.where(row)}, image {n}", reason) for row, n, reason in part.unread]


def manifest_of(
    plan: Plan,
    statistics: list[ShardStatistics],
    options: BuildOptions,
    survey: Survey,
) -> Manifest:
    """The manifest of finished shards: vocabulary and counts."""
    results = list(zip(plan.tasks, statistics, strict=True))
    train: Counter[str] = Counter()
    for task, result in results:
        if task.split == "train":
            train.update(result.emojis)
    vocabulary, rare = split_by_count(train, options.min_count)
    return Manifest(
        image_size=options.image_size,
        encoding=options.encoding,
        canonical_version=CANONICAL_VERSION,
        options=options.to_json() | {"split_by": plan.split_by, "source": survey.content},
        vocabulary=vocabulary,
        rare=rare,
        posts=plan.posts,
        left_out={**plan.left_out, **plan.broken},
        shards=tuple(
            ShardEntry(
                name=task.name,
                index=index_name(task.name),
                split=task.split,
                images=result.images,
                tuples=known,
                bytes=result.bytes,
                sha256=result.sha256,
                index_sha256=result.index_sha256,
                outside=result.tuples - known,
                reactions=result.reactions,
                fold=task.fold,
            )
            for task, result in results
            for known in [sum(count for emoji, count in result.emojis.items() if emoji in vocabulary)]
        ),
    )
