//! Tables of what each grant covers.

use super::*;

fn grants(listen: &[&str], connect: &[&str]) -> Grants {
    Grants {
        listen: listen.iter().map(|text| text.parse().expect(text)).collect(),
        connect: connect.iter().map(|text| text.parse().expect(text)).collect(),
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

/// Checks that each address may be connected to, or may not.
fn connects(grant: &str, table: &[(&str, bool)]) {
    let grants = grants(&[], &[grant]);
    for (to, expected) in table {
        assert_eq!(grants.allows_connect_addr(addr(to)).is_ok(), *expected, "{grant} and {to}");
    }
}

#[test]
fn nothing_is_granted_by_default() {
    let grants = Grants::default();
    assert!(grants.allows_listen(addr("127.0.0.1:8080")).is_err());
    for to in ["127.0.0.1:80", "8.8.8.8:53", "[::1]:80", "[2606:4700::1]:443"] {
        assert!(grants.allows_connect_addr(addr(to)).is_err(), "{to}");
    }
    assert!(grants.allows_name("example.com", 443).is_err());
    assert!(grants.allows_name("localhost", 443).is_err());
}

#[test]
fn run_grants_loopback_listeners_from_1024() {
    let grants = Grants::loopback();
    for (at, expected) in [
        ("127.0.0.1:1024", true),
        ("127.0.0.1:65535", true),
        ("127.0.0.1:0", true),
        ("127.9.9.9:7000", true),
        ("[::1]:7000", true),
        ("[::ffff:127.0.0.1]:7000", true),
        ("127.0.0.1:1023", false),
        ("127.0.0.1:1", false),
        ("0.0.0.0:7000", false),
        ("[::]:7000", false),
        ("[::ffff:0.0.0.0]:7000", false),
        ("10.0.0.1:7000", false),
        ("[fe80::1]:7000", false),
    ] {
        assert_eq!(grants.allows_listen(addr(at)).is_ok(), expected, "{at}");
    }
    assert!(grants.allows_connect_addr(addr("127.0.0.1:7000")).is_err());
}

#[test]
fn listening_everywhere_needs_a_grant_for_that() {
    for (grant, at, expected) in [
        ("0.0.0.0:80", "0.0.0.0:80", true),
        ("0.0.0.0/0:80", "0.0.0.0:80", true),
        ("0.0.0.0/0:80", "10.0.0.1:80", true),
        ("0.0.0.0/0:80", "[::]:80", false),
        ("0.0.0.0/8:80", "0.0.0.0:80", false),
        ("0.0.0.0:80", "127.0.0.1:80", false),
        ("[::]:80", "[::]:80", true),
        ("[::/0]:80", "[::]:80", true),
        ("[::/64]:80", "[::]:80", false),
        ("[::]:80", "0.0.0.0:80", false),
        ("localhost:*", "0.0.0.0:80", false),
        ("localhost:*", "127.0.0.1:0", true),
        ("10.0.0.0/8:8000-8099", "10.255.0.1:8000", true),
        ("10.0.0.0/8:8000-8099", "10.255.0.1:8100", false),
    ] {
        assert_eq!(grants(&[grant], &[]).allows_listen(addr(at)).is_ok(), expected, "{grant} and {at}");
    }
}

#[test]
fn an_exact_listen_grant_covers_its_address_only() {
    let grants = grants(&["10.0.0.1:80"], &[]);
    assert!(grants.allows_listen(addr("10.0.0.1:80")).is_ok());
    assert!(grants.allows_listen(addr("10.0.0.1:81")).is_err());
    assert!(grants.allows_listen(addr("10.0.0.2:80")).is_err());
}

#[test]
fn address_grants_cover_the_address_in_all_its_forms() {
    connects(
        "10.0.0.5:6379",
        &[
            ("10.0.0.5:6379", true),
            ("[::ffff:10.0.0.5]:6379", true),
            ("10.0.0.5:6380", false),
            ("10.0.0.6:6379", false),
            ("[::10.0.0.5]:6379", false),
            ("[64:ff9b::10.0.0.5]:6379", false),
        ],
    );
    connects("[::ffff:10.0.0.5]:80", &[("10.0.0.5:80", true)]);
    connects("[::ffff:10.0.0.0/104]:80", &[("10.255.0.5:80", true), ("11.0.0.5:80", false)]);
    connects("[fd00::1]:80", &[("[fd00::1]:80", true), ("[fd00::2]:80", false)]);
    connects("[fd00::/8]:80", &[("[fdff::1]:80", true), ("[fe00::1]:80", false), ("10.0.0.1:80", false)]);
    connects(
        "10.0.0.0/8:*",
        &[("10.1.2.3:1", true), ("10.1.2.3:65535", true), ("10.1.2.3:0", false), ("11.0.0.0:1", false)],
    );
    connects("10.0.0.4/31:80", &[("10.0.0.5:80", true), ("10.0.0.6:80", false)]);
    connects("0.0.0.0/0:80", &[("127.0.0.1:80", true), ("8.8.8.8:80", true), ("[::1]:80", false)]);
    connects("[::/0]:80", &[("[::1]:80", true), ("127.0.0.1:80", false), ("[::ffff:127.0.0.1]:80", false)]);
    connects(
        "10.0.0.1:8000-8099",
        &[
            ("10.0.0.1:8000", true),
            ("10.0.0.1:8099", true),
            ("10.0.0.1:7999", false),
            ("10.0.0.1:8100", false),
        ],
    );
}

#[test]
fn a_scope_id_changes_nothing() {
    let scoped = SocketAddr::V6(std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 7, 3));
    assert!(grants(&[], &["[fe80::1]:80"]).allows_connect_addr(scoped).is_ok());
    let denied = Grants::default().allows_connect_addr(scoped).unwrap_err();
    assert_eq!(denied.grant(), Some(("allow-connect", "[fe80::1]:80".to_owned())));
}

/// Linux connects 0.0.0.0 to loopback, so it must not pass as something else.
#[test]
fn the_unspecified_address_is_loopback() {
    connects("127.0.0.1:80", &[("0.0.0.0:80", true), ("[::ffff:0.0.0.0]:80", true), ("[::]:80", false)]);
    connects("0.0.0.0/8:80", &[("0.0.0.0:80", false), ("127.0.0.1:80", false)]);
    connects("[::1]:80", &[("[::]:80", true)]);
    connects("public:80", &[("0.0.0.0:80", false), ("[::]:80", false)]);
}

#[test]
fn localhost_is_loopback_of_both_families() {
    connects(
        "localhost:80",
        &[
            ("127.0.0.1:80", true),
            ("127.1.2.3:80", true),
            ("[::1]:80", true),
            ("10.0.0.1:80", false),
            ("[::2]:80", false),
        ],
    );
}

#[test]
fn public_is_the_internet_only() {
    let public = [
        "8.8.8.8",
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "168.63.129.15",
        "2606:4700::1111",
        "2a00::1",
        "2001:4860::8888",
        "2001:200::1",
        "2003::1",
        "3ffe::1",
    ];
    let not = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.255",
        "168.63.129.16",
        "169.254.169.254",
        "169.254.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::8.8.8.8",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "64:ff9b::8.8.8.8",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:1ff::1",
        "2001:db8::1",
        "2002:808:808::1",
        "3fff::1",
        "3fff:fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00::1",
        "fd00:ec2::254",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
    ];
    let grants = grants(&[], &["public:443"]);
    let allows = |ip: &str| grants.allows_connect_addr(SocketAddr::new(ip.parse().expect(ip), 443)).is_ok();
    for ip in public {
        assert!(allows(ip), "{ip}");
    }
    for ip in not {
        assert!(!allows(ip), "{ip}");
    }
    assert!(allows("::ffff:8.8.8.8"), "mapped is the IPv4 address itself");
    assert!(grants.allows_connect_addr(addr("8.8.8.8:80")).is_err(), "another port");
}

#[test]
fn a_name_grant_covers_the_documented_forms_only() {
    let exact = grants(&[], &["example.test:443"]);
    for (name, port, expected) in [
        ("example.test", 443, true),
        ("EXAMPLE.test", 443, true),
        ("example.test.", 443, true),
        ("example.test..", 443, false),
        ("example.test", 80, false),
        ("example.test", 0, false),
        ("www.example.test", 443, false),
        ("badexample.test", 443, false),
        ("example.test.evil.test", 443, false),
        ("example", 443, false),
        ("93.184.216.34", 443, false),
        ("exämple.test", 443, false),
        ("ｅxample.test", 443, false),
        ("example.test\0", 443, false),
        ("example.test\n", 443, false),
        (" example.test", 443, false),
        ("", 443, false),
        (".", 443, false),
    ] {
        assert_eq!(exact.allows_name(name, port).is_ok(), expected, "{name:?}");
    }
    let below = grants(&[], &["*.example.test:443"]);
    for (name, expected) in [
        ("www.example.test", true),
        ("a.b.Example.Test.", true),
        ("example.test", false),
        (".example.test", false),
        ("badexample.test", false),
        ("www.example.test.evil", false),
    ] {
        assert_eq!(below.allows_name(name, 443).is_ok(), expected, "{name}");
    }
}

#[test]
fn names_may_be_looked_up_under_name_and_public_grants_only() {
    for (grant, name, expected) in [
        ("public:443", "example.com", true),
        ("public:443", "localhost", true),
        ("public:80", "example.com", false),
        ("10.0.0.0/8:443", "example.com", false),
        ("0.0.0.0/0:443", "example.com", false),
        ("localhost:443", "example.com", false),
        ("localhost:443", "localhost", true),
        ("127.0.0.1:443", "LOCALHOST.", true),
        ("[::1]:443", "localhost", true),
        ("10.0.0.1:443", "localhost", false),
        ("127.0.0.1:443", "127.0.0.1", true),
        ("127.0.0.1:443", "::ffff:127.0.0.1", true),
        ("[::1]:443", "::1", true),
        ("public:443", "127.0.0.1", false),
        ("public:443", "8.8.8.8", true),
    ] {
        assert_eq!(grants(&[], &[grant]).allows_name(name, 443).is_ok(), expected, "{grant} and {name}");
    }
}

/// What resolvers read as an address in disguise is no name, whatever is granted.
#[test]
fn numbers_are_not_names() {
    let grants = grants(&[], &["public:443", "0.0.0.0/0:443"]);
    for name in
        ["127.1", "2130706433", "0x7f000001", "0x7f.1", "10.0.0.256", "0177.0.0.1", "a.0X1", "1", "0x"]
    {
        assert!(
            matches!(grants.allows_name(name, 443), Err(Denied::NotAName(NameError::Number(_)))),
            "{name}"
        );
    }
}

#[test]
fn resolved_addresses_are_checked_again() {
    for (granted, name, to, expected) in [
        (&["db.test:443"][..], "db.test", "8.8.8.8:443", true),
        (&["db.test:443"], "db.test", "10.0.0.5:443", true),
        (&["db.test:443"], "DB.test.", "[fd00::5]:443", true),
        (&["db.test:443"], "db.test", "10.0.0.5:80", false),
        (&["db.test:443"], "other.test", "10.0.0.5:443", false),
        (&["*.db.test:443"], "a.db.test", "10.0.0.5:443", true),
        // Rebinding: into this host or onto its link.
        (&["db.test:443"], "db.test", "127.0.0.1:443", false),
        (&["db.test:443"], "db.test", "127.8.8.8:443", false),
        (&["db.test:443"], "db.test", "0.0.0.0:443", false),
        (&["db.test:443"], "db.test", "0.0.0.1:443", false),
        (&["db.test:443"], "db.test", "169.254.169.254:443", false),
        (&["db.test:443"], "db.test", "100.100.100.200:443", false),
        (&["db.test:443"], "db.test", "168.63.129.16:443", false),
        (&["db.test:443"], "db.test", "224.0.0.1:443", false),
        (&["db.test:443"], "db.test", "255.255.255.255:443", false),
        (&["db.test:443"], "db.test", "[::]:443", false),
        (&["db.test:443"], "db.test", "[::1]:443", false),
        (&["db.test:443"], "db.test", "[fe80::1]:443", false),
        (&["db.test:443"], "db.test", "[fd00:ec2::254]:443", false),
        (&["db.test:443"], "db.test", "[::ffff:127.0.0.1]:443", false),
        (&["db.test:443"], "db.test", "[::127.0.0.1]:443", false),
        (&["db.test:443"], "db.test", "[64:ff9b::127.0.0.1]:443", false),
        (&["db.test:443"], "db.test", "[64:ff9b:1::169.254.169.254]:443", false),
        (&["db.test:443"], "db.test", "[2002:7f00:1::1]:443", false),
        (&["db.test:443"], "db.test", "[64:ff9b::8.8.8.8]:443", true),
        // An address grant as well makes it right.
        (&["db.test:443", "127.0.0.1:443"], "db.test", "127.0.0.1:443", true),
        (&["db.test:443", "localhost:443"], "db.test", "[::1]:443", true),
        // Public names lead to public addresses.
        (&["public:443"], "db.test", "8.8.8.8:443", true),
        (&["public:443"], "db.test", "10.0.0.5:443", false),
        (&["public:443"], "localhost", "127.0.0.1:443", false),
        (&["public:443", "10.0.0.0/8:443"], "db.test", "10.0.0.5:443", true),
        (&["127.0.0.1:443"], "localhost", "127.0.0.1:443", true),
        (&["127.0.0.1:443"], "localhost", "[::1]:443", false),
        (&["localhost:443"], "localhost", "10.0.0.1:443", false),
    ] {
        assert_eq!(
            grants(&[], granted).checks_resolved(name, addr(to)).is_ok(),
            expected,
            "{granted:?}: {name} at {to}"
        );
    }
}

/// Whatever is denied, the grant that the denial names allows it.
#[test]
fn a_denial_names_the_grant_that_allows_it() {
    let flag = |denied: &Denied, kind: &str| {
        let (named, grant) = denied.grant().expect("there is one");
        assert_eq!(named, kind);
        grant
    };
    for at in ["10.0.0.1:80", "0.0.0.0:80", "[::]:443", "[fd00::1]:0", "[::ffff:127.0.0.1]:80"] {
        let denied = Grants::default().allows_listen(addr(at)).unwrap_err();
        assert!(grants(&[&flag(&denied, "allow-listen")], &[]).allows_listen(addr(at)).is_ok(), "{denied}");
    }
    for to in ["10.0.0.5:6379", "[fd00::1]:443", "0.0.0.0:80", "[::]:80", "[::ffff:1.2.3.4]:5"] {
        let denied = Grants::default().allows_connect_addr(addr(to)).unwrap_err();
        assert!(
            grants(&[], &[&flag(&denied, "allow-connect")]).allows_connect_addr(addr(to)).is_ok(),
            "{denied}"
        );
    }
    let denied = Grants::default().allows_name("Redis.Internal.", 6379).unwrap_err();
    assert_eq!(flag(&denied, "allow-connect"), "redis.internal:6379");
    assert!(grants(&[], &["redis.internal:6379"]).allows_name("Redis.Internal.", 6379).is_ok());

    let only_name = grants(&[], &["redis.internal:6379"]);
    let denied = only_name.checks_resolved("redis.internal", addr("127.0.0.1:6379")).unwrap_err();
    assert_eq!(flag(&denied, "allow-connect"), "127.0.0.1:6379");
}

/// A guest's text reaches the log escaped and cut.
#[test]
fn a_denial_cannot_forge_log_lines() {
    let name = format!("a\n\u{1b}[31mERROR {}", "x".repeat(10_000));
    let text = grants(&[], &["public:443"]).allows_name(&name, 443).unwrap_err().to_string();
    assert!(text.len() < 400 && !text.contains(['\n', '\u{1b}']), "{text}");
}

#[test]
fn grants_are_shown_as_they_are_written() {
    for text in [
        "10.0.0.5:6379",
        "10.0.0.0/8:80",
        "[fd00::1]:443",
        "[fd00::/8]:443",
        "localhost:8000-8099",
        "public:*",
        "redis.internal:6379",
        "*.example.com:443",
        "0.0.0.0/0:*",
        "[::/0]:1",
    ] {
        assert_eq!(text.parse::<ConnectGrant>().expect(text).to_string(), text);
    }
    for text in ["10.0.0.5:0", "0.0.0.0:80", "[::]:80", "localhost:*", "10.0.0.0/8:1-2"] {
        assert_eq!(text.parse::<ListenGrant>().expect(text).to_string(), text);
    }
    assert_eq!("Public:443".parse::<ConnectGrant>().unwrap().to_string(), "public:443");
}

#[test]
fn refused_grants_say_what_to_write() {
    for (text, says) in [
        ("example.com", "write `example.com:443`"),
        ("10.0.0.5", "names no port"),
        ("[fd00::1]", "names no port"),
        ("fd00::1", "in brackets"),
        ("fd00::1:443", "in brackets"),
        ("[fd00::1:443", "in brackets"),
        ("[fd00::1]443", "in brackets"),
        ("[fd00::]/8:443", "[fd00::/8]:443"),
        ("[10.0.0.1]:80", "in brackets"),
        ("[fe80::1%eth0]:80", "in brackets"),
        ("a:", "is not a port"),
        ("a:http", "is not a port"),
        ("a:65536", "is not a port"),
        ("a:+80", "is not a port"),
        ("a:90-80", "is not a port"),
        ("a:80-", "is not a port"),
        ("a:80,81", "is not a port"),
        ("a:0", "port 0"),
        ("a:0-0", "port 0"),
        ("10.0.0.0/33:80", "0 to 32"),
        ("[fd00::/129]:80", "0 to 128"),
        ("10.0.0.0/:80", "0 to 32"),
        ("10.0.0/8:80", "0 to 32"),
        ("10.0.0.5/8:80", "write `10.0.0.0/8`"),
        ("[fd00::1/8]:80", "write `[fd00::/8]`"),
        ("*:80", "public:443"),
        ("a.*.com:80", "*.example.com"),
        ("*a.com:80", "*.example.com"),
        ("*.*.com:80", "*.example.com"),
        ("https://example.com:443", "is a URL"),
        ("exämple.com:443", "punycode"),
        ("exa mple.com:443", "is not a host name"),
        ("a..b:443", "is not a host name"),
        (":443", "is not a host name"),
        ("127.1:443", "10.0.0.5"),
        ("0.0.0.0:80", "no destination"),
        ("[::]:80", "no destination"),
        ("", "names no port"),
    ] {
        let error = text.parse::<ConnectGrant>().expect_err(text).to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
    for text in ["example.com:80", "*.example.com:80", "public:80"] {
        let error = text.parse::<ListenGrant>().expect_err(text).to_string();
        assert!(error.contains("a listener needs an address"), "{text}: {error}");
    }
}

#[test]
fn a_name_has_dns_lengths() {
    let label = "a".repeat(63);
    let longest = [label.as_str(), &label, &label, &"a".repeat(61)].join(".");
    assert_eq!(longest.len(), 253);
    let grants = grants(&[], &["public:1"]);
    assert!(grants.allows_name(&longest, 1).is_ok());
    assert!(grants.allows_name(&format!("{longest}."), 1).is_ok());
    assert!(grants.allows_name(&format!("a{longest}"), 1).is_err());
    assert!(grants.allows_name(&"a".repeat(64), 1).is_err());
}
