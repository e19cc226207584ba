"""The kernel in a bzImage, uncompressed: a machine that is emulated would spend seconds on what this host does once.

Documentation/arch/x86/boot.rst in Linux: `payload_offset` and `payload_length` of the header, from the first byte after the setup sectors.
"""

from __future__ import annotations

import lzma
import zlib

from casemate.errors import HostError

_ELF = b"\x7fELF"
_SETUP_SECTORS, _MAGIC, _PAYLOAD_OFFSET, _PAYLOAD_LENGTH = 0x1F1, 0x202, 0x248, 0x24C
_SECTOR = 512
_LZ4_LEGACY, _XZ, _GZIP = b"\x02\x21\x4c\x18", b"\xfd7zXZ\0", b"\x1f\x8b\x08"
_GZIP_WINDOW = 31  # zlib.h: 15 bits, and 16 for a gzip header


def uncompressed(image: bytes) -> bytes:
    """The ELF file in a bzImage, or the image itself if it is one. Raises HostError."""
    if image.startswith(_ELF):
        return image
    if image[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise HostError("the image is neither an ELF file nor a bzImage", "name a kernel's vmlinux or vmlinuz")
    start = (image[_SETUP_SECTORS] + 1) * _SECTOR + int.from_bytes(image[_PAYLOAD_OFFSET : _PAYLOAD_OFFSET + 4], "little")
    payload = image[start : start + int.from_bytes(image[_PAYLOAD_LENGTH : _PAYLOAD_LENGTH + 4], "little")]
    try:
        found = _decompress(payload)
    except (lzma.LZMAError, zlib.error, IndexError) as error:
        raise HostError(f"the image's kernel is damaged: {error}", "install it again") from None
    if not found.startswith(_ELF):
        raise HostError("the image holds no ELF file", "name a kernel for x86-64")
    return found


def _decompress(payload: bytes) -> bytes:
    if payload.startswith(_LZ4_LEGACY):
        return _lz4_legacy(payload)
    if payload.startswith(_XZ):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(_GZIP):
        return zlib.decompressobj(_GZIP_WINDOW).decompress(payload)
    raise HostError(f"the image's kernel is compressed in a way that is not known here ({payload[:4].hex()})", "use one compressed by lz4, xz or gzip")


def _lz4_legacy(payload: bytes) -> bytes:
    """Blocks of a length and its bytes, each for itself (lz4_Frame_format.md, "Legacy frame"); the kernel's build appends the size of the whole."""
    parts, place = [], len(_LZ4_LEGACY)
    while place + 4 < len(payload):
        length = int.from_bytes(payload[place : place + 4], "little")
        parts.append(_lz4_block(payload[place + 4 : place + 4 + length]))
        place += 4 + length
    return b"".join(parts)


def _lz4_block(block: bytes) -> bytes:
    """lz4_Block_format.md: a token, literals, then a copy of what has been written."""
    out = bytearray()
    place, end = 0, len(block)
    while place < end:
        token = block[place]
        place += 1
        length = token >> 4
        if length == 15:
            while (more := block[place]) == 255:
                length += 255
                place += 1
            length += more
            place += 1
        out += block[place : place + length]
        place += length
        if place >= end:
            break
        distance = block[place] | block[place + 1] << 8
        place += 2
        length = token & 15
        if length == 15:
            while (more := block[place]) == 255:
                length += 255
                place += 1
            length += more
            place += 1
        length += 4
        begin = len(out) - distance
        if distance >= length:
            out += out[begin : begin + length]
        else:
            pattern = bytes(out[begin:])
            out += (pattern * (length // distance + 1))[:length]
    return bytes(out)
