//! What compiling a component makes, as it is kept: code, and the table of the lines that the code is from.

/// Both in one.
pub(super) fn joined(mut code: Vec<u8>, lines: &[u8]) -> Vec<u8> {
    code.extend(lines);
    code.extend((lines.len() as u64).to_le_bytes());
    code
}

/// The code and the table; none if they were not joined here.
pub(super) fn split(artifact: &[u8]) -> Option<(&[u8], &[u8])> {
    let (both, lines_bytes) = artifact.split_last_chunk()?;
    let lines_bytes = usize::try_from(u64::from_le_bytes(*lines_bytes)).ok()?;
    both.split_at_checked(both.len().checked_sub(lines_bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_joined_is_split() {
        for (code, lines) in [(&b"code"[..], &b"lines"[..]), (b"code", b""), (b"", b"lines"), (b"", b"")] {
            assert_eq!(split(&joined(code.to_vec(), lines)), Some((code, lines)));
        }
    }

    #[test]
    fn garbage_is_not_split_out_of_bounds() {
        for garbage in [&b""[..], b"short", &[0xff; 8], &[0xff; 100], &[9, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(split(garbage), None, "{garbage:?}");
        }
    }
}
