"""The options of a dataset: those of a build, and the fewer that matter to an adoption."""

from dataclasses import asdict, dataclass, field

from ..shards.manifest import Manifest
from .deny import DenyList

TEXTS = ("caption", "comments", "reactions")


@dataclass(frozen=True)
class BuildOptions:
    """What decides the bytes of a dataset, besides the posts."""

    image_size: int = 64  # pixels
    encoding: str = "npy"
    images_per_shard: int = 1024
    min_count: int = 5  # tuples in the train split for an emoji to be in the vocabulary
    keep_variants: bool = False  # keep skin tone and gender
    split_by: str = "auto"  # or one of SPLIT_BY; auto is account where there are enough of them, else post
    val_share: float = 0.1  # of the accounts or posts
    test_share: float = 0.1
    folds: int | None = None  # into which train is dealt, for a cross-validation
    texts: tuple[str, ...] = ("caption",)  # of TEXTS: where emojis come from
    repeat: str = "once"  # or all: how often an emoji counts in a post
    deny: DenyList = field(default=DenyList())

    def of_digest(self) -> tuple:
        """The options that a part depends on."""
        return (self.image_size, self.encoding, self.keep_variants, self.texts, self.repeat, self.deny)

    def to_json(self) -> dict:
        """For the manifest. Of the deny list only a hash is in it, for the list may hold names of people."""
        content = {**asdict(self), "texts": list(self.texts), "deny": self.deny.fingerprint()}
        if self.folds is None:
            del content["folds"]  # a dataset without any is the one that it was before there were folds
        return content

    def made(self, manifest: Manifest) -> bool:
        """Whether a dataset was built with these options; `auto` may have come to account or to post."""
        recorded = {"split_by": manifest.split_by, **manifest.options}
        asked = self.to_json()
        if self.split_by == "auto" and manifest.split_by != "time":
            asked["split_by"] = manifest.split_by
        return recorded | asked == recorded and self.folds == recorded.get("folds")


ADOPTION_OPTIONS = (
    "image_size",
    "min_count",
    "keep_variants",
    "split_by",
    "val_share",
    "test_share",
    "repeat",
)
"""The fields of BuildOptions that matter to an adoption."""


def adoption_options(manifest: Manifest) -> BuildOptions:
    """The options of an adopted dataset."""
    recorded = {"split_by": manifest.split_by, **manifest.options}
    return BuildOptions(**{name: recorded[name] for name in ADOPTION_OPTIONS})
