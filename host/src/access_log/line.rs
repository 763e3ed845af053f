//! One line: what is told of a connection, as text or as JSON. Nothing in it is of the guest's or the peer's making.

use std::{
    fmt::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use serde::{Serialize, Serializer};
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};

use crate::{config::file::LogFormat, ending::Ending};

/// What is told.
#[derive(Debug, Clone, Serialize)]
pub struct Line<'a> {
    /// Whose guest it was with.
    pub tenant: &'a str,
    /// Who made it.
    pub direction: Direction,
    /// Where it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<SocketAddr>,
    /// The other side, or the client that a proxy has told of.
    pub peer: SocketAddr,
    /// That proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<SocketAddr>,
    /// Who had it last; in a shared instance, the first of its coroutines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coroutine: Option<u64>,
    /// Bytes that the guest received.
    pub received: u64,
    /// Bytes that the guest sent.
    pub sent: u64,
    /// From its beginning on.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// How it ended.
    #[serde(serialize_with = "word")]
    pub end: Ending,
}

/// Which side made a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The peer.
    In,
    /// The guest.
    Out,
}

impl Line<'_> {
    /// As it is written, with the time and the end of the line.
    pub(super) fn write(&self, format: LogFormat) -> String {
        let mut text = String::with_capacity(BYTES_USUAL);
        let written = match format {
            LogFormat::Text => self.text(&mut text),
            LogFormat::Json => self.json(&mut text),
        };
        written.expect("a string takes everything");
        text.push('\n');
        text
    }

    fn text(&self, text: &mut String) -> fmt::Result {
        SystemTime.format_time(&mut Writer::new(text))?;
        let Self { tenant, direction, listener, peer, proxy, coroutine, received, sent, duration, end } =
            self;
        let direction = match direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        write!(text, " access tenant={tenant} direction={direction}")?;
        if let Some(listener) = listener {
            write!(text, " listener={listener}")?;
        }
        write!(text, " peer={peer}")?;
        if let Some(proxy) = proxy {
            write!(text, " proxy={proxy}")?;
        }
        if let Some(coroutine) = coroutine {
            write!(text, " coroutine={coroutine}")?;
        }
        let seconds = duration.as_secs_f64();
        write!(text, " received={received} sent={sent} seconds={seconds:.6} end={end}")
    }

    fn json(&self, text: &mut String) -> fmt::Result {
        text.push_str("{\"timestamp\":\"");
        SystemTime.format_time(&mut Writer::new(text))?;
        text.push_str("\",");
        let fields = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        text.push_str(&fields[1..]);
        Ok(())
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e6)
}

fn word<S: Serializer>(end: &Ending, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(end)
}

const BYTES_USUAL: usize = 256;
