// SPDX-License-Identifier: GPL-2.0

//! Attributes of the kernel crate that mean nothing on the host.

extern crate proc_macro;

use proc_macro::{
    Delimiter,
    Group,
    TokenStream,
    TokenTree, //
};

/// The tests in a module, which rustc's own harness finds.
#[proc_macro_attribute]
pub fn kunit_tests(_suite: TokenStream, module: TokenStream) -> TokenStream {
    module
}

/// A structure with fields that are `#[pin]`, which none has to be here.
#[proc_macro_attribute]
pub fn pin_data(_arguments: TokenStream, structure: TokenStream) -> TokenStream {
    without_pin(structure)
}

fn without_pin(tokens: TokenStream) -> TokenStream {
    let mut kept: Vec<TokenTree> = Vec::new();

    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                match group.to_string().trim_matches(['[', ']']).trim() == "pin" {
                    true => drop(kept.pop()),
                    false => kept.push(group.into()),
                }
            }
            TokenTree::Group(group) => {
                kept.push(Group::new(group.delimiter(), without_pin(group.stream())).into());
            }
            token => kept.push(token),
        }
    }
    kept.into_iter().collect()
}
