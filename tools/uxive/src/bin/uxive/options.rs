// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The options of a command: `--name value`, in any order, each once.

use crate::{
    text::escaped,
    Failure, //
};
use core::ops::RangeInclusive;
use std::ffi::{
    OsStr,
    OsString, //
};

/// Options and their values.
pub(crate) struct Options<'a>(Vec<(&'a OsStr, &'a OsStr)>);

impl<'a> Options<'a> {
    /// Takes the words of the call, of which the options must be `known`.
    pub(crate) fn read(words: &'a [OsString], known: &[&str]) -> Result<Self, Failure> {
        let mut found: Vec<(&OsStr, &OsStr)> = vec![];

        for pair in words.chunks(2) {
            let name = pair[0].as_os_str();
            let shown = escaped(name.as_encoded_bytes());
            let usage = |what| Failure::Usage(format!("{shown} {what}"));

            if !known.iter().any(|&known| name == known) {
                return Err(usage("is no option here"));
            }
            if found.iter().any(|&(other, _)| other == name) {
                return Err(usage("is there twice"));
            }
            let value = pair.get(1).ok_or_else(|| usage("needs a value"))?;
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// Returns the value of an option, if it is there.
    pub(crate) fn get(&self, name: &str) -> Option<&'a OsStr> {
        let found = self.0.iter().find(|&&(other, _)| other == name);

        found.map(|&(_, value)| value)
    }

    /// Returns the number that an option has, which must be one of `range`, if it is there.
    pub(crate) fn number(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, Failure> {
        let number = |value: &OsStr| {
            value
                .to_str()
                .and_then(|value| value.parse().ok())
                .filter(|number| range.contains(number))
                .ok_or_else(|| {
                    let (low, high) = (range.start(), range.end());
                    let value = escaped(value.as_encoded_bytes());
                    Failure::Usage(format!("{name} {value} is no number from {low} to {high}"))
                })
        };

        self.get(name).map(number).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn numbers_are_within_their_range() {
        let words = ["--a", "7", "--b", "x"].map(OsString::from);
        let options = Options::read(&words, &["--a", "--b", "--c"]).ok().unwrap();

        assert_eq!(options.number("--a", 0..=7).ok(), Some(Some(7)));
        assert_eq!(options.number("--a", 0..=6).ok(), None);
        assert_eq!(options.number("--b", 0..=7).ok(), None);
        assert_eq!(options.number("--c", 0..=7).ok(), Some(None));
        assert_eq!(options.get("--b"), Some(OsStr::new("x")));
    }

    #[test]
    fn what_is_wrong_is_shown_escaped() {
        let words = |name: &[u8], value: &[u8]| {
            [name, value].map(|bytes| OsString::from_vec(bytes.to_vec()))
        };
        let said = |failure| match failure {
            Failure::Usage(text) => text,
            _ => panic!("called as it should be"),
        };
        let of_name = words(b"--\x1b\xff", b"1");
        let of_value = words(b"--a", b"1\n2");

        let failure = Options::read(&of_name, &["--a"]).err().unwrap();
        assert_eq!(said(failure), r"--\x1b\xff is no option here");
        let options = Options::read(&of_value, &["--a"]).ok().unwrap();
        let failure = options.number("--a", 0..=7).unwrap_err();
        assert_eq!(said(failure), r"--a 1\n2 is no number from 0 to 7");
    }
}
