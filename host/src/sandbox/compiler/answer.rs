//! What a child answers, on its stdout: code, or why there is none. It says how long it is, so that a part is not
//! taken for the whole.

use std::io::{self, Write};

use crate::sandbox::component::one_line;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// What compiling it has made.
    Code(Vec<u8>),
    /// What is wrong with the component.
    Refused(String),
}

impl Answer {
    pub(super) fn write(&self, mut to: impl Write) -> io::Result<()> {
        let (kind, payload) = match self {
            Answer::Code(code) => (CODE, &code[..]),
            Answer::Refused(why) => (REFUSED, why.as_bytes()),
        };
        to.write_all(&[kind])?;
        to.write_all(&(payload.len() as u64).to_le_bytes())?;
        to.write_all(payload)?;
        to.flush()
    }

    /// The answer, if `bytes` are one and no more. Nothing in it is taken on trust but that the child wrote it.
    pub(super) fn read(mut bytes: Vec<u8>) -> Option<Self> {
        let (header, payload) = bytes.split_at_checked(HEADER_BYTES)?;
        let (kind, length) = header.split_first()?;
        if u64::from_le_bytes(length.try_into().ok()?) != payload.len() as u64 {
            return None;
        }
        match *kind {
            CODE => {
                bytes.drain(..HEADER_BYTES);
                Some(Answer::Code(bytes))
            }
            REFUSED => Some(Answer::Refused(one_line(&String::from_utf8_lossy(payload)))),
            _ => None,
        }
    }
}

const CODE: u8 = b'c';
const REFUSED: u8 = b'r';
/// The kind, and the payload's length.
const HEADER_BYTES: usize = 1 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_as_they_went() {
        for answer in [Answer::Code(vec![1, 2, 3]), Answer::Code(vec![]), Answer::Refused("why".to_owned())] {
            let mut bytes = Vec::new();
            answer.write(&mut bytes).expect("a vector takes everything");
            assert_eq!(Answer::read(bytes), Some(answer));
        }
    }

    #[test]
    fn parts_and_garbage_are_no_answers() {
        let mut whole = Vec::new();
        Answer::Code(vec![7; 100]).write(&mut whole).expect("a vector takes everything");
        for length in 0..whole.len() {
            assert_eq!(Answer::read(whole[..length].to_vec()), None, "{length}");
        }
        let longer = [&whole[..], b"x"].concat();
        let unknown = [&b"x"[..], &whole[1..]].concat();
        for bytes in [longer, unknown, vec![0xff; 100]] {
            assert_eq!(Answer::read(bytes), None);
        }
    }

    /// Its words may quote the component's own names.
    #[test]
    fn a_refusal_is_one_line_that_ends() {
        let mut bytes = Vec::new();
        let why = format!("\x1b[2J\n{}", "x".repeat(100_000));
        Answer::Refused(why).write(&mut bytes).expect("a vector takes everything");
        let Some(Answer::Refused(why)) = Answer::read(bytes) else { panic!("it is one") };
        assert!(why.len() < 1_000 && !why.contains(char::is_control), "{why}");
    }
}
