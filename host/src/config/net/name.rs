//! DNS names as grants and guests give them.

use std::fmt;

use thiserror::Error;

/// A DNS name: ASCII, lower case, no trailing dot, and not the text of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(String);

impl Name {
    pub(super) fn parse(text: &str) -> Result<Name, NameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if !name.is_ascii() {
            return Err(NameError::NotAscii(shown(text)));
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) {
            return Err(NameError::Malformed(shown(text)));
        }
        // The system's resolver takes 127.1, 2130706433 and 0x7f000001 for addresses.
        if name.rsplit('.').next().is_some_and(is_number) {
            return Err(NameError::Number(shown(text)));
        }
        Ok(Name(name.to_ascii_lowercase()))
    }

    /// Whether it is a sub-domain, at any depth, of `suffix`.
    pub(super) fn is_below(&self, suffix: &Name) -> bool {
        self.0.strip_suffix(&suffix.0).is_some_and(|rest| rest.ends_with('.'))
    }

    pub(super) fn is_localhost(&self) -> bool {
        self.0 == "localhost"
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a host name. The text is shown escaped and cut, for it may come from a guest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Internationalised names have an ASCII form, and only that.
    #[error("host name {0} is not ASCII; give its punycode form (xn--…)")]
    NotAscii(String),
    /// Wrong characters or lengths.
    #[error(
        "{0} is not a host name: labels of 1 to 63 letters, digits, `-` or `_`, joined by dots, at most 253 in all"
    )]
    Malformed(String),
    /// A resolver would take it for an address, though not the one a reader may think of.
    #[error("{0} is neither a host name nor an address; write addresses as 10.0.0.5 or fd00::1")]
    Number(String),
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}

/// As DNS has it.
const NAME_BYTES_MAX: usize = 253;

/// Of a malformed name, how much an error shows.
const SHOWN_CHARS_MAX: usize = 64;
