//! The header of the PROXY protocol, versions 1 and 2, as haproxy's `doc/proxy-protocol.txt` has it.
//!
//! The parsers there are take more than that text allows (ports with a sign, words that begin as `UNKNOWN` does), wait on
//! for bytes that cannot be the beginning of a header any more, and look at no checksum. Who can name any client is to
//! be taken at the letter.

use std::net::{IpAddr, SocketAddr};

use crc::{CRC_32_ISCSI, Crc};

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// Whose connection the proxy passes on.
    Client {
        /// Where it comes from.
        source: SocketAddr,
        /// What it connected to.
        destination: SocketAddr,
    },
    /// The connection is the proxy's own, or it cannot tell whose it is: its socket's addresses are right.
    Own,
}

/// How far the beginning of a connection is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    /// There is a header, of so many bytes.
    Whole(Header, usize),
    /// It goes on. To receive so many bytes now is of use; what comes with the last of them may be beyond it.
    Part(usize),
}

/// It is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY protocol header: {0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// Reads a header from the bytes there are, which are all since the connection's beginning.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if begins(bytes, SIGNATURE) {
        return if bytes.len() < PREFIX_BYTES {
            Ok(Parsed::Part(FIRST_BYTES - bytes.len()))
        } else {
            v2(bytes)
        };
    }
    if begins(bytes, WORD) {
        return v1(bytes);
    }
    Err(Malformed("it begins otherwise"))
}

/// Is one of them the beginning of the other?
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(is, wanted)| is == wanted)
}

/// A line: `PROXY TCP4 SOURCE DESTINATION PORT PORT`.
fn v1(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let line = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = line.windows(2).position(|two| two == b"\r\n") else {
        let left = LINE_BYTES_MAX - line.len();
        return if left == 0 { Err(Malformed("its line does not end")) } else { Ok(Parsed::Part(left)) };
    };
    let text = std::str::from_utf8(&line[WORD.len()..end]).map_err(|_| Malformed("its line is no text"))?;
    let header = match text.split_once(' ').unwrap_or((text, "")) {
        ("UNKNOWN", _) => Header::Own,
        ("TCP4", rest) => client(rest, |text| text.parse().ok().map(IpAddr::V4))?,
        ("TCP6", rest) => client(rest, |text| text.parse().ok().map(IpAddr::V6))?,
        _ => return Err(Malformed("its protocol is none of TCP4, TCP6 and UNKNOWN")),
    };
    Ok(Parsed::Whole(header, end + 2))
}

fn client(text: &str, address: fn(&str) -> Option<IpAddr>) -> Result<Header, Malformed> {
    let words: Vec<&str> = text.split(' ').collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err(Malformed("it has not two addresses and two ports"));
    };
    let socket = |ip, at| {
        let ip = address(ip).ok_or(Malformed("an address is none of its protocol"))?;
        Ok(SocketAddr::new(ip, port(at).ok_or(Malformed("a port is none"))?))
    };
    Ok(Header::Client {
        source: socket(source, source_port)?,
        destination: socket(destination, destination_port)?,
    })
}

/// Decimal, and written as it would be written.
fn port(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    (port.to_string() == text).then_some(port)
}

/// Sixteen bytes, of which the last two say how many follow: addresses, then what else there is to tell.
fn v2(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let [command, family, high, low] = bytes[SIGNATURE.len()..PREFIX_BYTES] else {
        unreachable!("they are four")
    };
    let length = PREFIX_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, LOCAL | PROXY) {
        return Err(Malformed("its version or its command is unknown"));
    }
    if length > HEADER_BYTES_MAX {
        return Err(Malformed("it is too long"));
    }
    if bytes.len() < length {
        return Ok(Parsed::Part(length - bytes.len()));
    }
    if command == LOCAL {
        // Whatever else it says is to be passed over.
        return Ok(Parsed::Whole(Header::Own, length));
    }
    let block = &bytes[PREFIX_BYTES..length];
    let (header, addresses_bytes) = match family {
        TCP4 => (pair::<4>(block), 12),
        TCP6 => (pair::<16>(block), 36),
        // Addresses that no connection of ours could have: the protocol leaves it to us to go by the socket's.
        UNSPECIFIED => (Some(Header::Own), 0),
        UDP4 => (Some(Header::Own), 12),
        UDP6 => (Some(Header::Own), 36),
        UNIX_STREAM | UNIX_DATAGRAM => (Some(Header::Own), 216),
        _ => return Err(Malformed("its family is unknown")),
    };
    let short = Malformed("it is shorter than its addresses");
    let (header, fields) = (header.ok_or(short)?, block.get(addresses_bytes..).ok_or(short)?);
    check_sum(&bytes[..length], length - fields.len())?;
    Ok(Parsed::Whole(header, length))
}

fn pair<const N: usize>(block: &[u8]) -> Option<Header>
where
    [u8; N]: Into<IpAddr>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, _) = rest.split_first_chunk()?;
    let socket = |ip: [u8; N], port| SocketAddr::new(ip.into(), u16::from_be_bytes(port));
    Some(Header::Client {
        source: socket(*source, *source_port),
        destination: socket(*destination, *destination_port),
    })
}

/// Walks the fields that begin at `at`, each with a type, a length in two bytes and a value. One may be a checksum over
/// the whole header, made while it was itself zero.
fn check_sum(header: &[u8], mut at: usize) -> Result<(), Malformed> {
    while at < header.len() {
        let overlong = Malformed("a field of it is longer than it");
        let [kind, high, low] = *header[at..].first_chunk().ok_or(overlong)?;
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([high, low]));
        let bytes = header.get(value..at).ok_or(overlong)?;
        if kind != CHECKSUM {
            continue;
        }
        let sum: [u8; 4] = bytes.try_into().map_err(|_| Malformed("its checksum has not four bytes"))?;
        let mut digest = CRC32C.digest();
        digest.update(&header[..value]);
        digest.update(&[0; 4]);
        digest.update(&header[at..]);
        if digest.finalize() != u32::from_be_bytes(sum) {
            return Err(Malformed("its checksum is wrong"));
        }
    }
    Ok(())
}

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

const WORD: &[u8] = b"PROXY ";
/// With the end of the line.
const LINE_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const PREFIX_BYTES: usize = 16;
/// The greatest is a few hundred bytes, most often: a client's certificate may be in it.
pub(super) const HEADER_BYTES_MAX: usize = 4096;
/// What is received at once while nothing is known.
pub(super) const FIRST_BYTES: usize = 256;

/// Version 2 in the upper half.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const UDP4: u8 = 0x12;
const TCP6: u8 = 0x21;
const UDP6: u8 = 0x22;
const UNIX_STREAM: u8 = 0x31;
const UNIX_DATAGRAM: u8 = 0x32;

/// The type of a field.
const CHECKSUM: u8 = 0x03;

const _: () = assert!(LINE_BYTES_MAX <= FIRST_BYTES && PREFIX_BYTES <= FIRST_BYTES);

#[cfg(test)]
mod tests;
