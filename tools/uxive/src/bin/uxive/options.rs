// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The options of a command: `--name value`, in any order, each once.

use crate::Failure;
use core::ops::RangeInclusive;

/// Options and their values.
pub(crate) struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    /// Takes the words of the call, of which the options must be `known`.
    pub(crate) fn read(words: &'a [String], known: &[&str]) -> Result<Self, Failure> {
        let mut found: Vec<(&str, &str)> = vec![];

        for pair in words.chunks(2) {
            let name = pair[0].as_str();
            let usage = |what| Failure::Usage(format!("{name} {what}"));

            if !known.contains(&name) {
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
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|&&(other, _)| other == name);

        found.map(|&(_, value)| value)
    }

    /// Returns the number that an option has, which must be one of `range`, if it is there.
    pub(crate) fn number(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, Failure> {
        let number = |value: &str| {
            value
                .parse()
                .ok()
                .filter(|number| range.contains(number))
                .ok_or_else(|| {
                    let (low, high) = (range.start(), range.end());
                    Failure::Usage(format!("{name} {value} is no number from {low} to {high}"))
                })
        };

        self.get(name).map(number).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_within_their_range() {
        let words = ["--a", "7", "--b", "x"].map(String::from);
        let options = Options::read(&words, &["--a", "--b", "--c"]).ok().unwrap();

        assert_eq!(options.number("--a", 0..=7).ok(), Some(Some(7)));
        assert_eq!(options.number("--a", 0..=6).ok(), None);
        assert_eq!(options.number("--b", 0..=7).ok(), None);
        assert_eq!(options.number("--c", 0..=7).ok(), Some(None));
        assert_eq!(options.get("--b"), Some("x"));
    }
}
