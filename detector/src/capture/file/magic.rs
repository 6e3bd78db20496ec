//! What a file that is no capture may be.

use std::io;

/// First bytes of a gzip member (RFC 1952 §2.3.1).
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Bytes that are looked at to describe a file.
pub(super) const DESCRIBED: usize = 64;

/// Characters of a text file that are quoted.
const QUOTED: usize = 24;

/// Formats that are mistaken for captures, and what to do about them.
const KNOWN: [(&[u8], &str); 12] = [
    (&[0x28, 0xb5, 0x2f, 0xfd], "it is compressed with zstd; run `zstd -d` on it first"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "it is compressed with xz; run `xz -d` on it first"),
    (b"BZh", "it is compressed with bzip2; run `bzip2 -d` on it first"),
    (&[0x04, 0x22, 0x4d, 0x18], "it is compressed with lz4; run `lz4 -d` on it first"),
    (b"PK\x03\x04", "it is a zip archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it first"),
    (b"snoop\0\0\0", "it is a snoop capture; `editcap` converts it"),
    (b"\x7fELF", "it is a program"),
    (b"\x89PNG", "it is an image"),
    (b"%PDF", "it is a PDF document"),
    (b"SQLite format 3\0", "it is an SQLite database"),
    (&GZIP, "it is compressed twice; decompress it once first"),
];

/// Whether a read failed because compressed data is wrong, not because the system failed.
pub(super) fn is_bad_data(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
}

/// Says what `head`, the start of a file, looks like.
pub(super) fn describe(head: &[u8], compressed: bool) -> String {
    let inside = if compressed { "it is compressed with gzip, and inside " } else { "" };
    let found = if head.is_empty() {
        "it is empty".to_owned()
    } else if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        (*what).to_owned()
    } else if let Some(text) = text(head) {
        format!("it begins with the text \"{text}\"")
    } else {
        let bytes: Vec<String> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("it begins with the bytes {}", bytes.join(" "))
    };
    format!("{inside}{found}")
}

/// The first line of `head`, if it is text.
fn text(head: &[u8]) -> Option<String> {
    // The last character may be cut in its middle.
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() + 4 > head.len() => {
            std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let printable = |c: char| !c.is_control() || c.is_ascii_whitespace();
    let line = valid.trim_start().lines().next()?;
    (valid.chars().all(printable) && !line.is_empty())
        .then(|| line.chars().take(QUOTED).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_sees() {
        for (head, part) in [
            (b"".as_slice(), "empty"),
            (b"\x28\xb5\x2f\xfd1234", "zstd -d"),
            (b"hello world, this is a long line\nand more", "\"hello world, this is a l\""),
            (b"\n\n[owned]\nprefixes", "\"[owned]\""),
            (b"\x00\x01\x02\x03\xff", "bytes 00 01 02 03 ff"),
            ("grüße ü".as_bytes().get(..9).unwrap(), "grüße"),
            (b"\x7fELF\x02\x01", "a program"),
            (b"   \n\n", "bytes 20"),
        ] {
            assert!(describe(head, false).contains(part), "{}", describe(head, false));
        }
        assert!(describe(b"text", true).starts_with("it is compressed with gzip, and inside it"));
    }
}
