"""What can become of a post or an image, in the words under which it is counted.

A post ends as USED, as one of LEFT_OUT, or as bad, for any other reason here. These words are in manifests
and in rejects.jsonl, so that a changed one changes datasets.
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
BROKEN_JSON = "broken json"  # in a tar
NO_ID_OR_IMAGE = "no id or image"

# Bad images.
MISSING_IMAGE = "missing image"
UNREADABLE_IMAGE = "unreadable image"
IMAGE_TOO_LARGE = "image too large"
IMAGE_NOT_EXPORTED = "image not exported"
IMAGE_OUTSIDE_EXPORT = "image outside the export"
IMAGE_OUTSIDE_TABLE = "image outside the table's folder"

# Bad files and parts of files, whose posts cannot be counted.
DAMAGED_FILE = "damaged file"
UNREADABLE_FILE = "unreadable file"
FILE_TOO_LARGE = "file too large"  # of JSON, which is read as a whole
UNREADABLE_FOLDER = "unreadable folder"
NO_ACCOUNT = "no account"
NO_CHATS = "no chats"
UNREADABLE_CHATS = "unreadable chats"
UNREADABLE_CHAT = "unreadable chat"
UNREADABLE_ROW_GROUP = "unreadable row group"
DAMAGED_TAR = "damaged tar"
UNSAFE_NAME = "unsafe name in a tar"
NO_PLAIN_FILE = "no plain file in a tar"
TEXT_TOO_LONG = "text too long"
REPEATED_MEMBER = "repeated member in a tar"
DOTS_IN_NAME = "dots in a member's name"

# What posts in use lost, and posts that are gone since the dataset was built.
BAD_IMAGE = "bad images of posts in use"
OTHER_SPLIT = "reposts by accounts of another split"
NEAR_DUPLICATE_IMAGES = "images with a near-duplicate in another split"
DENIED_TUPLES = "tuples of denied emojis"
FORGOTTEN = "forgotten"
