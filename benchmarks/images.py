"""Images: posts to squares beside img2dataset's Resizer, hostile files, near-duplicates. Prints JSON lines.

    python3 -m venv peer && peer/bin/pip install img2dataset==1.47.0  # pins old packages: of its own
    python benchmarks/images.py --peer-python peer/bin/python

Needs emojigan[bench,demo]. Both sides do the same work on the same files, in alternating rounds: bytes of a
1080 x 1080 JPEG to the bytes of a 64 x 64 one. Time is of the processor, user and system, in one thread.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageEnhance
from threadpoolctl import threadpool_limits

from emojigan.datasets.images.duplicates import NEAR, VALUES, fingerprints
from emojigan.datasets.images.read import ImageError, read_image
from emojigan.datasets.shards.encoding import ENCODERS
from emojigan.datasets.worlds.demo import draw, shoot
from emojigan.datasets.worlds.photographs import PHOTOGRAPHS, photograph

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "datasets" / "images"))
from hostile_images import hostile_images

SIDE = 1080
PEER = """
import io, sys, time
from pathlib import Path
from img2dataset.resizer import Resizer
files = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
resizer = Resizer(64, "center_crop", False)
for _ in sys.stdin:
    start = time.process_time()
    for content in files:
        assert resizer(io.BytesIO(content))[-1] is None
    print((time.process_time() - start) / len(files), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="an interpreter that has img2dataset 1.47.0")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=36)
    options = parser.parse_args()
    with threadpool_limits(1):
        build_squares(options.peer_python, options.rounds, options.images)
        refuse_hostile(options.rounds)
        tell_near_duplicates()


def build_squares(peer_python: Path | None, rounds: int, images: int) -> None:
    posts = make_posts(images)
    ours, peers = [], []
    if peer_python is None:
        build(posts)
        ours = [build(posts) for _ in range(rounds)]
    else:
        with tempfile.TemporaryDirectory() as folder:
            for number, content in enumerate(posts):
                Path(folder, f"{number:03d}.jpg").write_bytes(content)
            for ask in start_peer(peer_python, folder):
                build(posts)
                ask()  # the first is not counted
                for _ in range(rounds):
                    ours.append(build(posts))
                    peers.append(ask())
    errors = [square_error(content) for content in posts]
    result = {
        "benchmark": f"build {SIDE}² JPEG",
        "images": images,
        "kb": round(statistics.mean(map(len, posts)) / 1000),
        "ours_img_per_cpu_s": round(1 / statistics.median(ours)),
        "psnr_db": round(decibels(statistics.mean(errors)), 1),
        "psnr_db_mean_and_worst_image": [
            round(f([decibels(each) for each in errors]), 1) for f in (statistics.mean, min)
        ],
        "goal": 3.5,
        "goal_db": 43,
    }
    if peers:
        ratios = [peer / own for own, peer in zip(ours, peers, strict=True)]
        result["peer"] = round(1 / statistics.median(peers))
        result["ratio"] = round(statistics.median(peers) / statistics.median(ours), 2)
        result["ratio_min_max"] = [round(min(ratios), 2), round(max(ratios), 2)]
    print(json.dumps(result, ensure_ascii=False), flush=True)


def start_peer(python: Path, folder: str) -> Iterator[Callable[[], float]]:
    """Once: a function that has the peer do a round and returns its seconds an image."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "PYTHONWARNINGS": "ignore",
    }
    with subprocess.Popen(
        [python, "-c", PEER, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as peer:
        assert peer.stdin and peer.stdout
        stdin, stdout = peer.stdin, peer.stdout

        def ask() -> float:
            stdin.write("\n")
            stdin.flush()
            return float(stdout.readline())

        yield ask
        stdin.close()


def make_posts(images: int) -> list[bytes]:
    """Crops of the demo's photographs, enlarged to SIDE, with a sensor's noise, as JPEG of quality 85."""
    rng, names = np.random.default_rng(0), list(PHOTOGRAPHS)
    posts = []
    for number in range(images):
        photo = photograph(names[number % len(names)])
        side = rng.uniform(0.45, 0.9) * min(photo.size)
        left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
        picture = photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        grain = 2.5 * rng.standard_normal((SIDE, SIDE, 1), np.float32)
        pixels = (np.asarray(picture, np.float32) + grain).clip(0, 255).astype(np.uint8)
        posts.append(encoded(Image.fromarray(pixels), quality=85))
    return posts


def build(posts: list[bytes]) -> float:
    """Seconds an image."""
    start = time.process_time()
    for content in posts:
        ENCODERS["jpg"](read_image(content))
    return (time.process_time() - start) / len(posts)


def square_error(content: bytes) -> float:
    """Mean squared error against the full decode and OpenCV's exact area average."""
    full = cv2.resize(simplejpeg.decode_jpeg(content), (64, 64), interpolation=cv2.INTER_AREA)
    return float(np.square(read_image(content).astype(float) - full).mean())


def decibels(error: float) -> float:
    return float(10 * np.log10(255**2 / error))


def refuse_hostile(rounds: int) -> None:
    files, times = hostile_images(), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of bombs
        for _, content in files:
            times.append(statistics.median(refusal(content) for _ in range(rounds)))
    result = {
        "benchmark": "refuse hostile images",
        "images": len(files),
        "median_ms": round(1000 * statistics.median(times), 3),
        "max_ms": round(1000 * max(times), 3),
        "slowest": files[int(np.argmax(times))][0],
        "goal_ms": 10,
    }
    print(json.dumps(result), flush=True)


def refusal(content: bytes) -> float:
    start = time.perf_counter()
    try:
        read_image(content)
    except ImageError:
        return time.perf_counter() - start
    raise AssertionError("a hostile image was read")


def tell_near_duplicates(posts: int = 600, copied: int = 100) -> None:
    """How far the fingerprints of other codings of a picture are, and those of other pictures."""
    world = list(draw(posts, seed=1))
    shots = [shoot(post) for post in world[:copied]]
    found = fingerprints_of(encoded(shoot(post), quality=92) for post in world)
    copies = {name: apart(found[:copied], fingerprints_of(map(f, shots))) for name, f in COPIES.items()}
    one, other = np.triu_indices(posts, 1)
    others, photo = apart(found[one], found[other]), np.array([post.group for post in world])
    same = photo[one] == photo[other]
    every = np.concatenate(list(copies.values()))
    result = {
        "benchmark": "near-duplicates",
        "near": NEAR,
        "copies_found": share(every),
        "copies_found_by_kind": {name: share(distances) for name, distances in copies.items()},
        "copies_apart_50_90_95_99_100": np.percentile(every, [50, 90, 95, 99, 100]).round(3).tolist(),
        "goal_copies_found": 0.95,
        "crops_of_one_photograph": int(same.sum()),
        "crops_linked": share(others[same]),
        "crops_apart_0_1_5_50": np.percentile(others[same], [0, 1, 5, 50]).round(3).tolist(),
        "goal_crops_linked": 0.001,
        "other_photographs": int((~same).sum()),
        "others_linked": share(others[~same]),
    }
    print(json.dumps(result), flush=True)


def encoded(image: Image.Image, form: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def rescaled(image: Image.Image, scale: float) -> bytes:
    size = round(image.width * scale), round(image.height * scale)
    return encoded(image.resize(size, Image.Resampling.LANCZOS), quality=80)


def lit(image: Image.Image, brightness: float) -> bytes:
    return encoded(ImageEnhance.Brightness(image).enhance(brightness), quality=80)


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    **{f"q{quality}": lambda image, q=quality: encoded(image, quality=q) for quality in (30, 50, 70, 85, 95)},
    **{f"x{scale}": lambda image, s=scale: rescaled(image, s) for scale in (0.3, 0.5, 0.75, 0.9)},
    **{f"light {light}": lambda image, b=light: lit(image, b) for light in (0.9, 0.95, 1.05, 1.1)},
    "WebP": lambda image: encoded(image, "WEBP", quality=60),
    "PNG": lambda image: encoded(image, "PNG", compress_level=1),
}


def fingerprints_of(contents: Iterable[bytes]) -> np.ndarray:
    return fingerprints(np.stack([read_image(content) for content in contents]))


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far fingerprints are apart, as a share of their reach: 1 for the farthest near-duplicates."""
    reach = np.maximum(one[:, VALUES], other[:, VALUES]).clip(1) / 1000
    one, other = (each[:, :VALUES].astype(np.float64) for each in (one, other))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine = ((one * other).sum(1) / lengths.clip(1)).clip(0, 1)
    return np.sqrt(1 - cosine**2) / reach


def share(distances: np.ndarray) -> float:
    return round(float(np.mean(distances <= 1)), 5)


if __name__ == "__main__":
    main()
