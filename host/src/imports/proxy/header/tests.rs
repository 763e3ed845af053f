use std::net::Ipv6Addr;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn from(source: &str, destination: &str) -> Header {
    Header::Client { source: address(source), destination: address(destination) }
}

/// A header of version 2, with these bytes after its prefix.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("it is short");
    [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), block].concat()
}

fn tcp4(fields: &[u8]) -> Vec<u8> {
    let addresses = [203, 0, 113, 7, 10, 0, 0, 1, 0xff, 0xfe, 0x01, 0xbb];
    binary(PROXY, TCP4, &[&addresses, fields].concat())
}

fn tcp6() -> Vec<u8> {
    let (source, destination) = ("2001:db8::7", "2001:db8::1");
    let octets = |text: &str| text.parse::<Ipv6Addr>().expect("an address").octets();
    binary(PROXY, TCP6, &[&octets(source)[..], &octets(destination), &[0x12, 0x34], &[0x00, 0x50]].concat())
}

/// With its checksum, and a field before and one behind it.
fn summed() -> Vec<u8> {
    let fields = [&[0x04, 0, 2, 1, 2][..], &[CHECKSUM, 0, 4, 0, 0, 0, 0], &[0xe0, 0, 1, 9]].concat();
    let mut header = tcp4(&fields);
    let sum = bitwise(&header).to_be_bytes();
    header[28 + 5 + 3..28 + 5 + 7].copy_from_slice(&sum);
    header
}

/// CRC32C as RFC 4960 describes it, bit by bit.
fn bitwise(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn whole() -> Vec<(Vec<u8>, Header)> {
    let v4 = from("203.0.113.7:65534", "10.0.0.1:443");
    let v6 = from("[2001:db8::7]:4660", "[2001:db8::1]:80");
    let long = b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    let all_ones = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    vec![
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 65534 443\r\n".to_vec(), v4),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4660 80\r\n".to_vec(), v6),
        (
            b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n".to_vec(),
            from("0.0.0.0:0", "255.255.255.255:65535"),
        ),
        (long.to_vec(), from(all_ones, all_ones)),
        (b"PROXY UNKNOWN\r\n".to_vec(), Header::Own),
        (b"PROXY UNKNOWN whatever it may be, 1 2\r\n".to_vec(), Header::Own),
        (tcp4(&[]), v4),
        (tcp6(), v6),
        (tcp4(&[0x01, 0, 2, b'h', b'2', 0x05, 0, 0]), v4),
        (summed(), v4),
        (binary(LOCAL, UNSPECIFIED, &[]), Header::Own),
        (binary(LOCAL, TCP4, &[1, 2, 3]), Header::Own),
        (binary(PROXY, UNSPECIFIED, &[]), Header::Own),
        (binary(PROXY, UDP4, &[0; 12]), Header::Own),
        (binary(PROXY, UDP6, &[0; 36]), Header::Own),
        (binary(PROXY, UNIX_STREAM, &[0; 216]), Header::Own),
        (tcp4(&[&[0xe1, 0x0f, 0xe1][..], &[7; 4065]].concat()), v4),
    ]
}

/// Of each beginning it is said that it goes on, and never that it is whole or wrong.
#[test]
fn headers_are_read_whole_and_no_byte_further() {
    for (bytes, header) in whole() {
        for end in 0..bytes.len() {
            let parsed = parse(&bytes[..end]);
            assert!(matches!(parsed, Ok(Parsed::Part(1..))), "{end} of {bytes:?}: {parsed:?}");
        }
        assert_eq!(parse(&bytes), Ok(Parsed::Whole(header, bytes.len())), "{bytes:?}");
        let more = [&bytes[..], b"PROXY GET / \r\n\r\n\0"].concat();
        assert_eq!(parse(&more), Ok(Parsed::Whole(header, bytes.len())), "{bytes:?}");
    }
}

/// Received as it asks to, little of what follows is received with a short header, and nothing with a long one.
#[test]
fn what_it_asks_for_ends_near_the_header() {
    for (bytes, header) in whole() {
        let stream = [&bytes[..], &[b'x'; 8192]].concat();
        let mut received = 0;
        let length = loop {
            match parse(&stream[..received]).expect("it is right") {
                Parsed::Whole(read, length) => break (assert_eq!(read, header), length).1,
                Parsed::Part(more) => received += more,
            }
        };
        assert_eq!(length, bytes.len());
        assert!(received == length || received <= FIRST_BYTES, "{received} for {length}");
    }
}

#[test]
fn what_is_no_header_is_refused() {
    let refused = |bytes: &[u8]| matches!(parse(bytes), Err(Malformed(_)));
    for bytes in [
        &b"G"[..],
        b"GET / HTTP/1.1\r\n",
        b"PROXX",
        b"PROXY\r\n",
        b"\r\n\r\n\0\r\nQUIX",
        b"\x16\x03\x01",
        b"\0",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 -2\r\n",
        b"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1\n2.2.2.2 1 2\r\n",
        b"PROXY TCP4 \xff.1.1.1 2.2.2.2 1 2\r\n",
    ] {
        assert!(refused(bytes), "{:?}: {:?}", String::from_utf8_lossy(bytes), parse(bytes));
    }
    let endless = [b"PROXY TCP4 ", &[b'1'; 100][..]].concat();
    assert_eq!(parse(&endless[..106]), Ok(Parsed::Part(1)));
    assert!(refused(&endless[..107]), "a line has 107 bytes at most");
    let unknown = [b"PROXY UNKNOWN ", &[b' '; 92][..], b"\r\n"].concat();
    assert!(refused(&unknown), "its end is the 108th byte");
}

#[test]
fn what_is_wrong_with_a_binary_header_is_found() {
    let refused = |bytes: &[u8]| matches!(parse(bytes), Err(Malformed(_)));
    for command in (0..=u8::MAX).filter(|command| ![LOCAL, PROXY].contains(command)) {
        assert!(refused(&binary(command, TCP4, &[0; 12])), "{command:#x}");
    }
    let known = [UNSPECIFIED, TCP4, UDP4, TCP6, UDP6, UNIX_STREAM, UNIX_DATAGRAM];
    for family in 0..=u8::MAX {
        let header = binary(PROXY, family, &[0; 216]);
        assert_eq!(refused(&header), !known.contains(&family), "{family:#x}: {:?}", parse(&header));
    }
    assert!(refused(&binary(PROXY, TCP4, &[0; 11])), "shorter than two addresses");
    assert!(refused(&binary(PROXY, TCP6, &[0; 35])));
    assert!(refused(&binary(PROXY, UNIX_STREAM, &[0; 215])));
    assert!(refused(&tcp4(&[1, 0])), "half a field");
    assert!(refused(&tcp4(&[1, 0, 2, 0])), "a field beyond the end");
    assert!(refused(&tcp4(&[CHECKSUM, 0, 3, 0, 0, 0])), "three bytes of a checksum");
    assert!(refused(&binary(PROXY, TCP4, &[0; HEADER_BYTES_MAX - PREFIX_BYTES + 1])));
    // Told by its length, before any of it has come.
    let overlong = [&SIGNATURE[..], &[PROXY, TCP4, 0xff, 0xff]].concat();
    assert!(refused(&overlong));
}

#[test]
fn any_flipped_bit_is_found_by_the_checksum() {
    let right = summed();
    // But for those of the length, which may leave the checksum out.
    for bit in (0..right.len() * 8).filter(|bit| !(14..16).contains(&(bit / 8))) {
        let mut wrong = right.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let parsed = parse(&wrong);
        let escaped = match parsed {
            // Not longer by what was flipped, and not one that need not be looked at.
            Ok(Parsed::Whole(header, _)) => header != Header::Own && wrong[33] == CHECKSUM,
            Ok(Parsed::Part(_)) | Err(_) => false,
        };
        assert!(!escaped, "bit {bit}: {parsed:?}");
    }
}

/// Whatever comes, it ends with an answer, and asks for no more than it may.
#[test]
fn noise_never_gets_far() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..200_000 {
        let mut bytes = whole().swap_remove((random() % 17) as usize).0;
        for _ in 0..random() % 4 {
            let place = (random() % bytes.len() as u64) as usize;
            bytes[place] = random() as u8;
        }
        bytes.truncate((random() % (bytes.len() as u64 + 1)) as usize);
        match parse(&bytes) {
            Ok(Parsed::Whole(_, length)) => assert!(length <= bytes.len()),
            Ok(Parsed::Part(more)) => assert!(more >= 1 && bytes.len() + more <= HEADER_BYTES_MAX),
            Err(Malformed(_)) => {}
        }
    }
}
