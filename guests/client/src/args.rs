//! The command line.

use std::process;
use std::str::FromStr;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// Where to connect: address or name, and port.
    pub(crate) target: String,
    /// How many connections to make, a coroutine each.
    pub(crate) connections: u64,
    /// How many requests to make in all.
    pub(crate) requests: u64,
    /// How long each request is, in bytes.
    pub(crate) size: usize,
    /// Use a pool of that many connections instead.
    pub(crate) pool: Option<u32>,
    /// How many coroutines share the pool.
    pub(crate) coroutines: u64,
}

/// The process's arguments; what they should be on standard error, and exit code 2, if they are something else.
pub(crate) fn parse_or_exit() -> Args {
    parse(std::env::args().skip(1)).unwrap_or_else(|problem| {
        eprintln!("{problem}\n{USAGE}");
        process::exit(2)
    })
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut target = None;
    let mut args =
        Args { target: String::new(), connections: 1, requests: 1000, size: 64, pool: None, coroutines: 16 };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--connections" => args.connections = number(&word, words.next())?,
            "--requests" => args.requests = number(&word, words.next())?,
            "--size" => args.size = number(&word, words.next())?,
            "--pool" => args.pool = Some(number(&word, words.next())?),
            "--coroutines" => args.coroutines = number(&word, words.next())?,
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ if target.is_some() => return Err(format!("one address is enough: {word}")),
            _ => target = Some(word),
        }
    }
    args.target = target.ok_or("no address is given")?;
    Ok(args)
}

fn number<T: FromStr + PartialEq + Default>(option: &str, value: Option<String>) -> Result<T, String> {
    let value = value.ok_or_else(|| format!("{option} needs a number"))?;
    let number = value.parse().map_err(|_| format!("{option} needs a number, not {value}"))?;
    if number == T::default() { Err(format!("{option} must be at least 1")) } else { Ok(number) }
}

const USAGE: &str = "\
usage: client ADDRESS [--requests N] [--size BYTES]
                      [--connections N | --pool MAX_OPEN [--coroutines N]]";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Args, String> {
        parse(words.split_whitespace().map(String::from))
    }

    #[test]
    fn options_stand_anywhere() {
        let args = parsed("--pool 8 db:5432 --coroutines 100 --requests 5000 --size 9").unwrap();
        let expected = Args {
            target: "db:5432".into(),
            connections: 1,
            requests: 5000,
            size: 9,
            pool: Some(8),
            coroutines: 100,
        };
        assert_eq!(args, expected);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for words in [
            "",
            "a:1 b:2",
            "a:1 --size",
            "a:1 --size x",
            "a:1 --pool 0",
            "a:1 --speed 9",
            "a:1 --requests -1",
        ] {
            assert!(parsed(words).is_err(), "{words}");
        }
    }
}
