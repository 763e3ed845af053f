//! What stands in an attribute's parentheses: `shared`, `stack = BYTES`.

use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, LitInt, Token};

#[derive(Default)]
pub(crate) struct Options {
    /// The word, where it was written.
    pub(crate) shared: Option<Ident>,
    stack: Option<(LitInt, usize)>,
}

impl Options {
    pub(crate) fn stack_bytes(&self) -> usize {
        self.stack.as_ref().map_or(STACK_BYTES, |(_, bytes)| *bytes)
    }

    /// A program always shares its instance.
    pub(crate) fn deny_shared(&self) -> Result<(), Error> {
        match &self.shared {
            Some(word) => Err(Error::new_spanned(word, "only a handler can be `shared`")),
            None => Ok(()),
        }
    }

    /// A handler alone in its instance has the whole stack.
    pub(crate) fn deny_useless_stack(&self) -> Result<(), Error> {
        match &self.stack {
            Some((literal, _)) if self.shared.is_none() => {
                Err(Error::new_spanned(literal, "`stack` is for coroutines: add `shared`"))
            }
            _ => Ok(()),
        }
    }
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Options, Error> {
        let mut options = Options::default();
        while !input.is_empty() {
            let word: Ident = input.parse()?;
            if word == "shared" && options.shared.is_none() {
                options.shared = Some(word);
            } else if word == "stack" && options.stack.is_none() {
                input.parse::<Token![=]>()?;
                options.stack = Some(stack(input.parse()?)?);
            } else {
                return Err(Error::new_spanned(word, "expected `shared` or `stack = BYTES`, each once"));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

fn stack(literal: LitInt) -> Result<(LitInt, usize), Error> {
    let bytes = literal.base10_parse()?;
    if !(STACK_BYTES_MIN..=STACK_BYTES_MAX).contains(&bytes) {
        return Err(Error::new_spanned(literal, "a stack is 8192 to 67108864 bytes"));
    }
    Ok((literal, bytes))
}

const STACK_BYTES: usize = 32 << 10;
const STACK_BYTES_MIN: usize = 8 << 10;
const STACK_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Options, Error> {
        syn::parse_str(text)
    }

    #[test]
    fn nothing_gives_the_defaults() {
        let options = parsed("").unwrap();
        assert_eq!((options.shared.is_some(), options.stack_bytes()), (false, STACK_BYTES));
    }

    #[test]
    fn both_go_together() {
        let options = parsed("shared, stack = 65536").unwrap();
        assert_eq!((options.shared.is_some(), options.stack_bytes()), (true, 65536));
        assert!(options.deny_useless_stack().is_ok());
        assert!(options.deny_shared().is_err());
    }

    #[test]
    fn a_stack_without_coroutines_is_refused() {
        assert!(parsed("stack = 65536").unwrap().deny_useless_stack().is_err());
    }

    #[test]
    fn what_is_not_an_option_is_refused() {
        for text in [
            "share",
            "shared, shared",
            "stack",
            "stack = 1",
            "stack = 99999999999",
            "stack = \"64KiB\"",
            "shared stack = 65536",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
