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
