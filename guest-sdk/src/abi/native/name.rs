//! What the host refuses to look up or to connect to, whatever the grants.

use std::net::IpAddr;

use crate::ErrorCode;
use crate::net::Target;

/// `invalid-argument` for what is neither a host name nor an address, and for port 0.
pub(super) fn check(target: &Target) -> Result<(), ErrorCode> {
    let (named, port) = match target {
        Target::Address(address) => (true, address.port()),
        Target::Name { name, port } => (is_name(name) || name.parse::<IpAddr>().is_ok(), *port),
    };
    if named && port != 0 { Ok(()) } else { Err(ErrorCode::InvalidArgument) }
}

/// ASCII labels, of which the last is no number: the system's resolver takes 127.1 and 0x7f000001 for addresses.
fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    name.len() <= NAME_BYTES_MAX
        && name.split('.').all(is_label)
        && !name.rsplit('.').next().is_some_and(is_number)
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

/// As DNS has it.
const NAME_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_host_takes_for_names() {
        let long = format!("{}.a", "a".repeat(64));
        for name in ["localhost", "db.example", "db.example.", "a_b.c-d", "1.a", "127.0.0.1", "::1"] {
            let target = Target::Name { name: name.into(), port: 1 };
            assert_eq!(check(&target), Ok(()), "{name}");
        }
        for name in ["", ".", "a..b", "a b", "ä.example", "127.1", "0x7f000001", "a.1", &long] {
            let target = Target::Name { name: name.into(), port: 1 };
            assert_eq!(check(&target), Err(ErrorCode::InvalidArgument), "{name}");
        }
    }
}
