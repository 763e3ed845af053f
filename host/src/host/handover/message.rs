//! What is said.

use serde::{Deserialize, Serialize};

use super::Key;

/// The first words of both, which name the protocol that all after them is of. A version that speaks another one says so
/// instead, as text.
pub(super) const GREETING: &str = "conet handover 1";

/// By the old one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FromOld {
    /// A listening socket, which comes with it.
    Socket(Key),
    /// It may not serve this.
    Held(HeldBack),
    /// That was all.
    Whole {
        /// Where its admin's Unix socket is.
        admin: Option<String>,
    },
    /// Begin.
    Go,
    /// What comes from now on is the new one's.
    Yours,
    /// Perhaps somebody waits to be accepted whom the kernel has told the old one of.
    Look,
    /// Somebody wanted the host to end, just now.
    Drain,
}

/// A version of a tenant that has been rolled back, for want of which the new one would serve it once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in super::super) struct HeldBack {
    /// Whose.
    pub(in super::super) tenant: String,
    /// A hash of all that it is made by, as this version of the program has that.
    pub(in super::super) version: String,
    /// The hash of its component, if the version before had another one.
    pub(in super::super) component: Option<String>,
    /// What was wrong with it.
    pub(in super::super) why: String,
}

/// By the new one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FromNew {
    /// It will serve the tenant of this name.
    Serves(String),
    /// Of what it was handed it has no use for this, of handlers: what waits there is the old one's.
    Left(Key),
    /// It has all that it needs.
    Ready,
    /// It accepts.
    Serving,
    /// It has the admin's place.
    Taken,
    /// It ends, for this reason.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions that are years apart read this of each other.
    #[test]
    fn what_is_said_stays_as_it_is() {
        let text = |message| serde_json::to_string(&message).expect("it can be written");
        let of = |address: &str, of| Key::Handler { address: address.parse().expect("an address"), of };
        for (message, expected) in [
            (
                FromOld::Socket(of("[fe80::1%3]:7", None)),
                r#"{"socket":{"handler":{"address":"[fe80::1%3]:7","of":null}}}"#,
            ),
            (
                FromOld::Socket(of("127.0.0.1:0", Some(("a".to_owned(), 1)))),
                r#"{"socket":{"handler":{"address":"127.0.0.1:0","of":["a",1]}}}"#,
            ),
            (
                FromOld::Held(HeldBack {
                    tenant: "a".to_owned(),
                    version: "f0".to_owned(),
                    component: None,
                    why: "it traps".to_owned(),
                }),
                r#"{"held":{"tenant":"a","version":"f0","component":null,"why":"it traps"}}"#,
            ),
            (FromOld::Whole { admin: None }, r#"{"whole":{"admin":null}}"#),
            (FromOld::Go, r#""go""#),
        ] {
            assert_eq!(serde_json::from_str::<FromOld>(expected).expect("it can be read"), message);
            assert_eq!(text(message), expected);
        }
        for (message, expected) in [
            (FromNew::Failed("why".to_owned()), r#"{"failed":"why"}"#),
            (FromNew::Left(of("[::1]:7", None)), r#"{"left":{"handler":{"address":"[::1]:7","of":null}}}"#),
        ] {
            assert_eq!(serde_json::to_string(&message).expect("it can be written"), expected);
        }
    }
}
