"""What can become of a post or an image, in the words under which it is counted.

A post ends as USED, as one of LEFT_OUT, or as bad, for any other reason but those of BROKEN_FILES, which are
no posts. These words are in manifests and in rejects.jsonl, so that a changed one changes datasets.
"""

USED = "used"

# Left out of good posts: no reason to doubt the source.
WITHOUT_EMOJI = "without emoji"
DISGUISED_EMOJIS = "emojis as escapes or mojibake"
WITHOUT_IMAGE = "without image"
DENIED_ACCOUNT = "denied account"
DENIED_WORD = "denied word"
DENIED_EMOJI = "denied emoji"
NEAR_DUPLICATE = "near-duplicate in another split"
LEFT_OUT = (
    WITHOUT_EMOJI,
    DISGUISED_EMOJIS,
    WITHOUT_IMAGE,
    DENIED_ACCOUNT,
    DENIED_WORD,
    DENIED_EMOJI,
    NEAR_DUPLICATE,
)

# Bad posts.
DUPLICATE_ID = "duplicate id"
NOT_UTF8 = "not UTF-8"
BROKEN_LINE = "broken line"  # of a table
LINE_TOO_LONG = "line too long"  # of a table
BROKEN_ENTRY = "broken entry"  # of an export
BROKEN_JSON = "broken json"  # of one post, in a tar or in a file of its own
NO_ID_OR_IMAGE = "no id or image"
UNREADABLE_ROW_GROUP = "unreadable row group"  # of Parquet, which knows how many rows were in it
UNSAFE_NAME = "unsafe name in a tar"
NO_PLAIN_FILE = "no plain file in a tar"
TEXT_TOO_LONG = "text too long"
REPEATED_MEMBER = "repeated member in a tar"
DOTS_IN_NAME = "dots in a member's name"

# Bad images.
MISSING_IMAGE = "missing image"
UNREADABLE_IMAGE = "unreadable image"
IMAGE_TOO_LARGE = "image too large"
IMAGE_NOT_EXPORTED = "image not exported"
IMAGE_OUTSIDE_EXPORT = "image outside the export"
IMAGE_OUTSIDE_TABLE = "image outside the table's folder"

# Broken files and parts of files, of which nobody knows how many posts were in them.
DAMAGED_TAR = "damaged tar"
UNREADABLE_FILE = "unreadable file"
FILE_TOO_LARGE = "file too large"  # of JSON, which is read as a whole
ROW_WITHOUT_END = "row cut off or in open quotes"  # of a table; in it may be any number of others
UNREADABLE_FOLDER = "unreadable folder"
NO_CHATS = "no chats"
UNREADABLE_CHATS = "unreadable chats"
UNREADABLE_CHAT = "unreadable chat"
NO_ACCOUNT = "no account"  # of an archive: each of its posts would be of an account of its own
BROKEN_FILES = (
    DAMAGED_TAR,
    UNREADABLE_FILE,
    ROW_WITHOUT_END,
    FILE_TOO_LARGE,
    UNREADABLE_FOLDER,
    NO_CHATS,
    UNREADABLE_CHATS,
    UNREADABLE_CHAT,
    NO_ACCOUNT,
)

# What posts in use lost, and posts that are gone since the dataset was built.
BAD_IMAGE = "bad images of posts in use"
OTHER_SPLIT = "reposts by accounts of another split"
NEAR_DUPLICATE_IMAGES = "images with a near-duplicate in another split"
DENIED_TUPLES = "tuples of denied emojis"
FORGOTTEN = "forgotten"
