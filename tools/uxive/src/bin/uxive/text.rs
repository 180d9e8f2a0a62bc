// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Shows text of others safely: names of processes, paths, words of the call, files of the kernel.
//! Anybody may have chosen such text, and a terminal obeys control characters in it.

use core::fmt::Write;

/// Returns bytes as the driver shows them in debugfs: printable ASCII, and all else escaped.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();

    for &byte in bytes {
        match byte {
            b'\t' => text += "\\t",
            b'\n' => text += "\\n",
            b'\r' => text += "\\r",
            b' '..=b'~' => text.push(byte.into()),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

/// Returns bytes that are one word among others: in quotes unless they are such a word by themselves.
pub(crate) fn word(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\".contains(byte);

    if !bytes.is_empty() && bytes.iter().all(plain) {
        return escaped(bytes);
    }
    let part = |&byte: &u8| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        _ => escaped(&[byte]),
    };

    format!("\"{}\"", bytes.iter().map(part).collect::<String>())
}

/// Returns bytes as [`escaped`] does, and a backslash as two, so that each text stands for the bytes of
/// one name only.
pub(crate) fn unambiguous(bytes: &[u8]) -> String {
    let part = |&byte: &u8| match byte {
        b'\\' => r"\\".into(),
        _ => escaped(&[byte]),
    };

    bytes.iter().map(part).collect()
}

/// Returns printable ASCII as a string of JSON.
pub(crate) fn json(text: &str) -> String {
    let part = |letter| match letter {
        '"' | '\\' => format!("\\{letter}"),
        _ => letter.into(),
    };

    format!("\"{}\"", text.chars().map(part).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_printable_ascii_is_shown() {
        let all: Vec<u8> = (0..=255).collect();
        let printable = |byte| (b' '..=b'~').contains(&byte);

        assert!(escaped(&all).bytes().all(printable));
        assert!(word(&all).bytes().all(printable));
        assert_eq!(escaped(b"\x1b]0;x\x07"), r"\x1b]0;x\x07");
        assert_eq!(escaped(b"a\tb\nc\rd\0e\x7f"), r"a\tb\nc\rd\x00e\x7f");
        assert_eq!(escaped("\u{202e}é".as_bytes()), r"\xe2\x80\xae\xc3\xa9");
        assert_eq!(escaped(b"\xff\xfe"), r"\xff\xfe");
    }

    #[test]
    fn a_word_is_told_from_others() {
        for plain in ["worker", "kworker/0:1", "(sd-pam)", "IBM,MEMCPY3", "it's"] {
            assert_eq!(word(plain.as_bytes()), plain);
        }
        assert_eq!(word(b""), r#""""#);
        assert_eq!(word(b"a (3), 1 init"), r#""a (3), 1 init""#);
        assert_eq!(word(b"\" (3), 1 init"), r#""\" (3), 1 init""#);
        assert_eq!(word(b"a\n"), r#""a\n""#);
        assert_eq!(word(b"a\\n"), r#""a\\n""#);
    }

    #[test]
    fn a_string_of_json_stands_for_one_name() {
        let shown = |bytes| json(&unambiguous(bytes));

        assert_eq!(shown(b"worker"), r#""worker""#);
        assert_eq!(shown(b"two words"), r#""two words""#);
        assert_eq!(shown(b"a\n"), r#""a\\n""#);
        assert_eq!(shown(b"a\\n"), r#""a\\\\n""#);
        assert_eq!(shown(b"\"\xff"), r#""\"\\xff""#);
    }
}
