//! What may stand on the right of a key: each type reads its own values, and says how they are written.

use std::{
    collections::BTreeMap, fmt::Display, net::SocketAddr, ops::Range, path::PathBuf, str::FromStr,
    time::Duration,
};

use serde_spanned::Spanned;
use toml::de::DeValue;

use super::{kind, problems::Found};
use crate::config::{
    driver::Driver,
    limits::OverLimit,
    net::{Cidr, ConnectGrant, ListenGrant},
    tenant::{DirGrant, Instances, Isolation},
    units::{parse_duration, parse_per_second, parse_size},
    wall::{CallFilter, Capabilities, Guard},
    warn::Warn,
};

/// A value, and where it was written.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// The bytes of the file it stands in.
    pub span: Range<usize>,
}

/// A type of values.
pub(crate) trait Setting: Sized {
    /// How one is written, for people.
    const WRITTEN: &'static str;

    /// Reads one; what is wrong with it is noted.
    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self>;
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) usize);

/// Bytes in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PerSecond(pub(super) u64);

/// How many, from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub usize);

/// A limit that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OrOff<T>(pub(super) Option<T>);

/// A hash of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sha256(pub(super) [u8; 32]);

/// A tenant's name: short, and of characters that mean nothing anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(pub(super) String);

impl Setting for String {
    const WRITTEN: &'static str = "a string";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let text = text(value, Self::WRITTEN, found)?;
        if text.contains('\0') {
            found.add(value.span(), "it has a zero byte in it, which no argument and no variable can hold");
            return None;
        }
        Some(text.to_owned())
    }
}

impl Setting for bool {
    const WRITTEN: &'static str = "`true` or `false`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        match value.get_ref() {
            DeValue::Boolean(is) => Some(*is),
            other => wanted(value, Self::WRITTEN, kind(other), found),
        }
    }
}

impl Setting for Guard {
    const WRITTEN: &'static str = "`true` (where it can be had), `false` or `\"required\"`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        match value.get_ref() {
            DeValue::Boolean(true) => Some(Guard::On),
            DeValue::Boolean(false) => Some(Guard::Off),
            DeValue::String(text) if text == "required" => Some(Guard::Required),
            DeValue::String(text) => wanted(value, Self::WRITTEN, &format!("`{text}`"), found),
            other => wanted(value, Self::WRITTEN, kind(other), found),
        }
    }
}

impl Setting for CallFilter {
    const WRITTEN: &'static str = "`true` (where it can be had), `false`, `\"log\"` or `\"required\"`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        match value.get_ref() {
            DeValue::Boolean(true) => Some(CallFilter::On),
            DeValue::Boolean(false) => Some(CallFilter::Off),
            DeValue::String(text) if text == "log" => Some(CallFilter::Log),
            DeValue::String(text) if text == "required" => Some(CallFilter::Required),
            DeValue::String(text) => wanted(value, Self::WRITTEN, &format!("`{text}`"), found),
            other => wanted(value, Self::WRITTEN, kind(other), found),
        }
    }
}

impl Setting for Capabilities {
    const WRITTEN: &'static str = "`\"none\"`, `\"net-bind-service\"` or `\"keep\"`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        match text(value, Self::WRITTEN, found)? {
            "none" => Some(Capabilities::None),
            "net-bind-service" => Some(Capabilities::NetBindService),
            "keep" => Some(Capabilities::Keep),
            other => wanted(value, Self::WRITTEN, &format!("`{other}`"), found),
        }
    }
}

impl Setting for PathBuf {
    const WRITTEN: &'static str = "a path, relative to the file's folder";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        match text(value, Self::WRITTEN, found)? {
            "" => wanted(value, Self::WRITTEN, "an empty string", found),
            path => Some(path.into()),
        }
    }
}

impl Setting for Count {
    const WRITTEN: &'static str = "a whole number from 1";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let DeValue::Integer(number) = value.get_ref() else {
            return wanted(value, Self::WRITTEN, kind(value.get_ref()), found);
        };
        match u32::from_str_radix(number.as_str(), number.radix()) {
            Ok(count) if count > 0 => Some(Count(count as usize)),
            _ => wanted(value, Self::WRITTEN, &format!("`{number}`"), found),
        }
    }
}

impl Setting for Size {
    const WRITTEN: &'static str = "a size, as in `\"64KiB\"` or `\"8MiB\"`, or a number of bytes";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let text = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            DeValue::String(text) => text,
            other => return wanted(value, Self::WRITTEN, kind(other), found),
        };
        noted(value, parse_size(text), found).map(Size)
    }
}

impl Setting for PerSecond {
    const WRITTEN: &'static str = "bytes in a second, as in `\"512KiB/s\"` or `\"10MiB/s\"`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        noted(value, parse_per_second(text(value, Self::WRITTEN, found)?), found).map(PerSecond)
    }
}

impl Setting for Duration {
    const WRITTEN: &'static str = "a duration, as in `\"50ms\"`, `\"10s\"` or `\"2m\"`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        noted(value, parse_duration(text(value, Self::WRITTEN, found)?), found)
    }
}

impl Setting for SocketAddr {
    const WRITTEN: &'static str = "an address with its port, as in `\"127.0.0.1:7000\"` or `\"[::]:7000\"`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let text = text(value, Self::WRITTEN, found)?;
        text.parse().ok().or_else(|| wanted(value, Self::WRITTEN, &format!("`{text}`"), found))
    }
}

impl Setting for Sha256 {
    const WRITTEN: &'static str = "64 hexadecimal digits, as `sha256sum` prints them";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let text = text(value, Self::WRITTEN, found)?;
        let digit = |at: usize| text.get(at * 2..at * 2 + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let mut hash = [0; 32];
        let plain = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !plain {
            return wanted(value, Self::WRITTEN, &format!("`{text}`"), found);
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = digit(at)?;
        }
        Some(Sha256(hash))
    }
}

impl Setting for Name {
    const WRITTEN: &'static str = "up to 63 of `a` to `z`, `0` to `9` and `-`, the first a letter or a digit";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let text = text(value, Self::WRITTEN, found)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > 63 || text.starts_with('-') || !text.bytes().all(plain) {
            return wanted(value, Self::WRITTEN, &format!("`{text}`"), found);
        }
        Some(Name(text.to_owned()))
    }
}

impl Setting for OverLimit {
    const WRITTEN: &'static str = "`\"wait\"` (in the backlog) or `\"refuse\"` (with a reset)";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        match text(value, Self::WRITTEN, found)? {
            "wait" => Some(OverLimit::Wait),
            "refuse" => Some(OverLimit::Refuse),
            other => wanted(value, Self::WRITTEN, &format!("`{other}`"), found),
        }
    }
}

/// Types that read themselves from text, and whose errors say what to write.
macro_rules! from_text {
    ($($type:ty: $written:literal,)+) => {$(
        impl Setting for $type {
            const WRITTEN: &'static str = $written;

            fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
                noted(value, <$type>::from_str(text(value, Self::WRITTEN, found)?), found)
            }
        }
    )+};
}

from_text! {
    Isolation: "`\"connection\"` (a fresh instance for each) or `\"shared\"` (one for each worker)",
    Instances: "`\"1\"` or `\"per-worker\"`",
    Driver: "`\"auto\"`, `\"epoll\"` or `\"io-uring\"`",
    Cidr: "an address or a network, as in `\"10.0.0.0/8\"`",
    DirGrant: "`\"HOST::GUEST\"` or `\"HOST::GUEST:ro\"`, as in `\"./data::/data:ro\"`",
    ListenGrant: "`\"HOST:PORTS\"`, as in `\"127.0.0.1:80\"` or `\"0.0.0.0/0:8000-8099\"`",
    Warn: "a key of a grant or limit, as in `\"idle\"`",
    ConnectGrant: "`\"HOST:PORTS\"`, as in `\"10.0.0.0/8:*\"`, `\"redis.internal:6379\"` or `\"public:443\"`",
}

/// The same, or `off`.
macro_rules! or_off {
    ($($type:ty: $written:literal,)+) => {$(
        impl Setting for OrOff<$type> {
            const WRITTEN: &'static str = $written;

            fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
                match value.get_ref() {
                    DeValue::String(text) if text == "off" => Some(OrOff(None)),
                    _ => <$type>::read(value, found).map(|read| OrOff(Some(read))),
                }
            }
        }
    )+};
}

or_off! {
    Count: "a whole number from 1, or `\"off\"`",
    Duration: "a duration, as in `\"50ms\"`, `\"10s\"` or `\"2m\"`, or `\"off\"`",
    PerSecond: "bytes in a second, as in `\"512KiB/s\"` or `\"10MiB/s\"`, or `\"off\"`",
}

/// A list, of which everything wrong is told.
macro_rules! lists {
    ($($type:ty: $written:literal,)+) => {$(
        impl Setting for Vec<$type> {
            const WRITTEN: &'static str = $written;

            fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
                Some(list(value, Self::WRITTEN, found)?.into_iter().map(|one| one.value).collect())
            }
        }
    )+};
}

lists! {
    String: "a list of strings",
    Cidr: "a list of addresses and networks, as in `[\"10.0.0.0/8\", \"fd00::1\"]`",
    PathBuf: "a list of paths, relative to the file's folder",
    DirGrant: "a list of `\"HOST::GUEST\"` or `\"HOST::GUEST:ro\"`, as in `[\"./data::/data:ro\"]`",
    ListenGrant: "a list of `\"HOST:PORTS\"`, as in `[\"127.0.0.1:80\", \"0.0.0.0/0:8000-8099\"]`",
    Warn: "a list of keys of grants and limits, as in `[\"allow-connect\", \"idle\"]`",
    ConnectGrant: "a list of `\"HOST:PORTS\"`, as in `[\"10.0.0.0/8:*\", \"redis.internal:6379\", \"public:443\"]`",
}

impl Setting for Vec<At<SocketAddr>> {
    const WRITTEN: &'static str =
        "a list of addresses with their ports, as in `[\"127.0.0.1:7000\", \"[::1]:7000\"]`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        list(value, Self::WRITTEN, found)
    }
}

/// Variables: names that can be ones.
impl<T: Setting> Setting for BTreeMap<String, T>
where
    T: Value,
{
    const WRITTEN: &'static str = T::TABLE;

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let DeValue::Table(entries) = value.get_ref() else {
            return wanted(value, Self::WRITTEN, kind(value.get_ref()), found);
        };
        let mut read = BTreeMap::new();
        for (name, value) in entries.iter() {
            let text = name.get_ref();
            if text.is_empty() || text.contains(['=', '\0']) {
                found.add(name.span(), format!("{text:?} cannot be the name of a variable"));
            } else if let Some(value) = T::read(value, found) {
                read.insert(text.to_string(), value);
            }
        }
        Some(read)
    }
}

/// What variables can be made of.
pub(crate) trait Value {
    /// How a table of them is written.
    const TABLE: &'static str;
}

impl Value for String {
    const TABLE: &'static str = "a table of strings, as in `{ LEVEL = \"debug\" }`";
}

impl Value for PathBuf {
    const TABLE: &'static str = "a table of paths, as in `{ TOKEN = \"/run/secrets/token\" }`";
}

fn list<T: Setting>(value: &Spanned<DeValue<'_>>, written: &str, found: &Found) -> Option<Vec<At<T>>> {
    let DeValue::Array(values) = value.get_ref() else {
        return wanted(value, written, kind(value.get_ref()), found);
    };
    let read = |value: &Spanned<DeValue<'_>>| {
        T::read(value, found).map(|read| At { value: read, span: value.span() })
    };
    Some(values.iter().filter_map(read).collect())
}

fn text<'a>(value: &'a Spanned<DeValue<'_>>, written: &str, found: &Found) -> Option<&'a str> {
    match value.get_ref() {
        DeValue::String(text) => Some(text),
        other => wanted(value, written, kind(other), found),
    }
}

fn wanted<T>(value: &Spanned<DeValue<'_>>, written: &str, is: &str, found: &Found) -> Option<T> {
    found.add(value.span(), format!("write {written}; this is {is}"));
    None
}

fn noted<T, E: Display>(value: &Spanned<DeValue<'_>>, read: Result<T, E>, found: &Found) -> Option<T> {
    read.map_err(|error| found.add(value.span(), error.to_string())).ok()
}
