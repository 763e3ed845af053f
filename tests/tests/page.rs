//! The admin's page.

use conet_tests::admin::{Response, Socket, address, both, ready};
use conet_tests::browser::{browser, document};
use conet_tests::host::Launch;
use conet_tests::peer;

/// In a real browser: the page's policy lets its own script run, and that finds what it reads.
#[test]
fn the_page_shows_the_tenants() {
    let Some(browser) = browser() else { return eprintln!("passed over: there is no chromium") };
    let socket = Socket::new();
    let warns = "warn = [\"connections\", \"idle\"]\n[tenant.limits]\nconnections = 1";
    let config = both(&socket).handler("other", "echo-handler", "").handler("warns", "echo-handler", warns);
    let host = ready(Launch::serve(&config).start(), &socket);
    let mut streams: Vec<_> = ["h", "h", "h", "warns", "warns"].map(|name| host.connect_to(name)).into();
    for stream in &mut streams {
        peer::round_trip(stream, b"ten bytes.");
    }
    let document = document(&browser, &format!("http://{}/", address(&host)));
    for (name, says) in [("h", "3 of 10,000"), ("other", "0 of 10,000")] {
        let row = document.split("<tr").find(|row| row.contains(&format!("<span>{name}</span>")));
        let row = row.unwrap_or_else(|| panic!("no row of {name}: {document}"));
        assert!(row.contains(says) && row.contains("running, handler"), "{row}");
        assert!(row.contains(&host.addr_of(name).to_string()), "{row}");
        assert!(row.contains("of 512 MiB"), "{row}");
        // It has looked more than once.
        assert!(row.contains("points=\"5"), "{row}");
    }
    assert_eq!(document.matches("would deny: 1 connections</small>").count(), 1, "{document}");
    assert!(document.contains("<caption id=\"caption\">3 tenants</caption>"), "{document}");
    assert!(document.contains("id=\"coroutines-caption\">5 coroutines</span>"), "{document}");
    assert!(document.contains("<small class=\"states\">3 recv</small>"), "{document}");
    let coroutines = document.split("id=\"coroutines\"").nth(1).expect("a table of coroutines");
    for stream in &streams {
        let address = stream.local_addr().expect("it is connected").to_string();
        let row = coroutines.split("<tr").find(|row| row.contains(&address));
        let row = row.unwrap_or_else(|| panic!("no row of {address}: {coroutines}"));
        assert!(row.contains(">recv</td>") && row.contains(">connection</td>"), "{row}");
    }
    assert!(document.contains("<option value=\"pool-wait\">pool-wait</option>"), "{document}");
    drop(streams);
    host.stop();
}

/// The page may run and fetch nothing but its own, and each answer has another nonce.
#[test]
fn the_page_has_a_strict_policy() {
    let socket = Socket::new();
    let host = ready(Launch::serve(&both(&socket)).start(), &socket);
    let nonce = |page: &Response| {
        let head = "content-security-policy: default-src 'none'; script-src 'nonce-";
        let policy = page.head.lines().find_map(|line| line.strip_prefix(head)).expect("a policy");
        assert!(!policy.contains("unsafe") && policy.contains("connect-src 'self'"), "{policy}");
        let nonce = policy.split('\'').next().expect("it ends").to_owned();
        assert_eq!(page.body.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "script and style");
        nonce
    };
    let (one, other) = (socket.get("/"), socket.get("/"));
    assert_ne!(nonce(&one), nonce(&other));
    for outside in ["http://", "https://", "//cdn", "innerHTML", "@import"] {
        let own = one.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains(outside), "{outside}");
    }
    host.stop();
}
