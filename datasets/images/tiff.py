"""What Pillow and libtiff are given of a TIFF: its first picture and no metadata, as far as it is whole.

    bytes ─► first directory ─► the entries that a picture needs, checked ─► a directory of these alone

Pillow would read every entry of every directory, each as long as the file, and follow them to further ones.
"""

import struct

from .refused import CUT_OFF, unreadable

_NEEDED = {
    **{256: "width", 257: "height", 258: "bits", 259: "compression", 262: "photometric", 266: "fill order"},
    **{277: "samples", 278: "rows per strip", 284: "planes", 317: "predictor", 320: "palette"},
    **{273: "offsets", 279: "lengths", 322: "tile width", 323: "tile height", 324: "offsets", 325: "lengths"},
    **{338: "extra samples", 339: "sample format", 530: "subsampling", 531: "positioning"},
}
_KINDS = {1: "B", 3: "H", 4: "I"}
_COMPRESSIONS = (1, 5, 8, 32773, 32946)  # none, LZW, deflate, PackBits, and deflate by its old number
_MOST_ENTRIES = 1000
_MOST_PARTS = 2**16  # strips or tiles
_MOST_PER_TILE = 2**26  # pixels


def tiff_essentials(source: bytes) -> bytes:
    """The TIFF with a directory of the entries that its first picture needs.

    Raises:
        ImageError: broken, cut off, of another compression, or of more than 16 bits.
        ValueError, struct.error: broken or cut off, too.
    """
    order = "<" if source.startswith(b"II") else ">"
    (first,) = struct.unpack_from(f"{order}I", source, 4)
    (count,) = struct.unpack_from(f"{order}H", source, first)
    if count > _MOST_ENTRIES:
        raise unreadable("is damaged: a TIFF of too many entries")
    entries: dict[int, bytes] = {}
    values: dict[str, tuple[int, ...]] = {}
    for start in range(first + 2, first + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", source, start)
        if tag in _NEEDED:
            if _NEEDED[tag] in values or number > _MOST_PARTS * 3 or kind not in _KINDS:
                raise unreadable(f"is damaged: a TIFF of two, too long or other entries for {_NEEDED[tag]}")
            form = f"{order}{number}{_KINDS[kind]}"
            place = start + 8
            if struct.calcsize(form) > 4:
                (place,) = struct.unpack_from(f"{order}I", source, place)
            values[_NEEDED[tag]] = struct.unpack_from(form, source, place)
            entries[tag] = source[start : start + 12]
    if missing := {"width", "height", "offsets", "lengths"} - values.keys():
        raise unreadable(f"is damaged: a TIFF that does not tell its {min(missing)}")
    _check(values, len(source))
    directory = b"".join(entries[tag] for tag in sorted(entries))
    end = len(source) + len(source) % 2
    return b"".join(
        [
            *(source[:4], struct.pack(f"{order}I", end), source[8:].ljust(end - 8, b"\0")),
            *(struct.pack(f"{order}H", len(entries)), directory, bytes(4)),
        ]
    )


def _check(values: dict[str, tuple[int, ...]], size: int) -> None:
    (width,), (height,) = values["width"], values["height"]
    (compression,), (samples,) = values.get("compression", (1,)), values.get("samples", (1,))
    offsets, lengths = values["offsets"], values["lengths"]
    bits = max(values.get("bits", (1,)))
    tile = max(values.get("tile width", (1,))) * max(values.get("tile height", (1,)))
    if compression not in _COMPRESSIONS:
        raise unreadable("is a TIFF of another compression than none, LZW, deflate and PackBits")
    if bits > 16:
        raise unreadable(f"is a TIFF of {bits} bits a sample, and at most 16 are read")
    if len(offsets) != len(lengths) or len(offsets) > _MOST_PARTS or tile > _MOST_PER_TILE:
        raise unreadable("is damaged: strips or tiles of a TIFF that no picture has")
    whole = all(offset + length <= size for offset, length in zip(offsets, lengths, strict=True))
    if not whole or (compression == 1 and 8 * sum(lengths) < width * height * samples * bits):
        raise unreadable(CUT_OFF)
