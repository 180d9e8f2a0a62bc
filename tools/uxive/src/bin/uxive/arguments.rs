// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Arguments of the commands, by lexopt: what all of them share.

use crate::{
    text::escaped,
    Failure, //
};
use core::ops::RangeInclusive;
use lexopt::{
    Arg::{
        Long,
        Short, //
    },
    Error,
    Parser, //
};

/// The form of an output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Reads the arguments of a command that only has `--json`; `None` if they ask for help.
pub(crate) fn format(arguments: &mut Parser) -> Result<Option<Format>, Failure> {
    let mut format = Format::Table;

    while let Some(argument) = arguments.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(None),
            Long("json") => format = Format::Json,
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(Some(format))
}

/// Returns the value of the option that was read last, a number of `range`.
pub(crate) fn number(
    option: &str,
    arguments: &mut Parser,
    range: RangeInclusive<u32>,
) -> Result<u32, Failure> {
    let value = arguments.value()?;

    value
        .to_str()
        .and_then(|value| value.parse().ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            let value = escaped(value.as_encoded_bytes());
            Failure::Usage(format!(
                "{option} {value} is no number from {low} to {high}"
            ))
        })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let shown = |text: &str| escaped(text.as_bytes());

        Self::Usage(match error {
            Error::MissingValue {
                option: Some(option),
            } => format!("{} needs a value", shown(&option)),
            Error::UnexpectedOption(option) => format!("{} is no option here", shown(&option)),
            Error::UnexpectedArgument(value) => {
                format!("{} is no argument here", escaped(value.as_encoded_bytes()))
            }
            Error::UnexpectedValue { option, .. } => format!("{} takes no value", shown(&option)),
            error => shown(&error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        ffi::OsString,
        os::unix::ffi::OsStringExt, //
    };

    /// Returns the number that `--a` has in this call, or the message.
    fn read(words: &[&[u8]]) -> Result<u32, String> {
        let words = words.iter().map(|word| OsString::from_vec(word.to_vec()));
        let mut arguments = Parser::from_args(words);
        let number = match arguments.next() {
            Ok(Some(Long("a"))) => number("--a", &mut arguments, 0..=7),
            Ok(Some(argument)) => Err(argument.unexpected().into()),
            Ok(None) => panic!("there is an argument"),
            Err(error) => Err(error.into()),
        };

        number.map_err(|failure| match failure {
            Failure::Usage(text) => text,
            _ => panic!("the call was wrong"),
        })
    }

    #[test]
    fn numbers_are_within_their_range() {
        assert_eq!(read(&[b"--a", b"7"]), Ok(7));
        assert_eq!(read(&[b"--a=7"]), Ok(7));
        for value in [&b"8"[..], b"-1", b"x", b""] {
            assert!(read(&[b"--a", value]).is_err());
        }
        assert_eq!(read(&[b"--a"]), Err("--a needs a value".into()));
    }

    #[test]
    fn wrong_arguments_are_shown_escaped() {
        for (words, says) in [
            (&[&b"--\x1b"[..]][..], r"--\x1b is no option here"),
            (&[b"-\x1b"], r"-\x1b is no option here"),
            (&[b"\x1b\n\xff"], r"\x1b\n\xff is no argument here"),
            (
                &[b"--a", b"1\n2\xff"],
                r"--a 1\n2\xff is no number from 0 to 7",
            ),
        ] {
            assert_eq!(read(words), Err(says.into()));
        }
    }
}
