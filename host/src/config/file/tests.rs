use super::*;
use std::time::Duration;

fn parse(text: &str) -> Result<ServeConfig, Problems> {
    let source = Source { name: "conet.toml".to_owned(), text: text.to_owned() };
    ServeConfig::parse(&source, Path::new("/etc/conet"))
}

fn problems(text: &str) -> Vec<String> {
    parse(text).expect_err(text).to_string().lines().map(str::to_owned).collect()
}

/// A tenant that is right, with `more` in it.
fn tenant(name: &str, more: &str) -> String {
    format!("[[tenant]]\nname = \"{name}\"\ncomponent = \"{name}.wasm\"\n{more}\n")
}

#[test]
fn a_tenant_has_the_defaults_where_it_says_nothing() {
    let text = format!(
        "[defaults]\nweight = 3\nenv = {{ A = \"1\" }}\n[defaults.limits]\ncpu = \"70ms\"\nconnections = 5\n{}{}",
        tenant("one", "weight = 2\n[tenant.limits]\nconnections = 7"),
        tenant("two", "env = { B = \"2\" }\nargs = [\"x\"]\ndirs = [\"data::/data:ro\"]"),
    );
    let config = parse(&text).expect("it is right");
    let [one, two] = &config.tenants[..] else { panic!("two tenants") };
    assert_eq!((one.weight.get(), two.weight.get()), (2, 3));
    assert_eq!((one.config.limits.connections_max, two.config.limits.connections_max), (7, 5));
    assert_eq!(one.config.limits.cpu_max, Duration::from_millis(70));
    assert_eq!(one.config.env[0].name, "A");
    assert_eq!(two.config.env.iter().map(|env| env.name.as_str()).collect::<Vec<_>>(), ["B"]);
    assert_eq!(one.component.value, Path::new("/etc/conet/one.wasm"));
    assert_eq!(two.config.dirs[0].host, Path::new("/etc/conet/data"));
    assert_eq!(two.config.args, ["/etc/conet/two.wasm", "x"]);
    assert!(two.config.grants.listen.is_empty(), "nothing is granted unasked");
}

#[test]
fn everything_wrong_is_told_at_once_with_its_line() {
    let text = "\
[host]
workers = 0
wokers = 2

[[tenant]]
name = \"Echo\"
component = \"echo.wasm\"
listen = [\"127.0.0.1:7000\", \"localhost:1\"]

[tenant.limits]
cpu = 50
fresh-memory = \"8MB\"

[[tenant]]
name = \"b\"
allow-connect = [\"10.0.0.0/33:1\", \"public:443\", \"x\"]
";
    let found = problems(text);
    let expect = [
        ("conet.toml:2:11: ", "a whole number from 1"),
        ("conet.toml:3:1: ", "is `workers` meant?"),
        ("conet.toml:6:8: ", "`Echo`"),
        ("conet.toml:8:29: ", "`localhost:1`"),
        ("conet.toml:11:7: ", "a duration"),
        ("conet.toml:12:16: ", "write `8MiB`"),
        ("conet.toml:14:", "has no component"),
        ("conet.toml:16:18: ", "10.0.0.0/33"),
        ("conet.toml:16:49: ", "names no port"),
    ];
    for (place, says) in expect {
        let told = found.iter().any(|line| line.starts_with(place) && line.contains(says));
        assert!(told, "{place}{says}: {found:#?}");
    }
    assert_eq!(found.len(), expect.len(), "{found:#?}");
}

#[test]
fn an_unknown_key_that_is_like_no_other_is_told_what_there_is() {
    let found = problems(&format!("[host]\nquux = 1\n{}", tenant("a", "")));
    assert!(found[0].contains("[host] has workers, driver"), "{found:?}");
}

#[test]
fn broken_toml_is_told_with_its_line() {
    let found = problems("[host]\nworkers = \n");
    assert!(found[0].starts_with("conet.toml:2:"), "{found:?}");
}

#[test]
fn a_file_without_tenants_is_refused() {
    for text in ["", "[host]\nworkers = 1\n"] {
        assert!(problems(text)[0].contains("add a [[tenant]]"));
    }
    assert!(problems("tenant = 1").iter().any(|line| line.contains("[[tenant]]")));
    assert!(problems("[tenant]\nname = \"a\"")[0].contains("in two brackets"));
}

#[test]
fn names_are_there_once() {
    let found = problems(&[tenant("a", ""), tenant("b", ""), tenant("a", "")].concat());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("another tenant has the name `a`"));
}

#[test]
fn two_tenants_cannot_have_one_address() {
    for (one, other, meets) in [
        ("127.0.0.1:80", "127.0.0.1:80", true),
        ("127.0.0.1:80", "0.0.0.0:80", true),
        ("[::]:80", "127.0.0.1:80", true),
        ("[::]:80", "0.0.0.0:80", true),
        ("127.0.0.1:80", "127.0.0.2:80", false),
        ("0.0.0.0:80", "[::1]:80", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
        ("127.0.0.1:80", "127.0.0.1:81", false),
    ] {
        let listen = |address| format!("listen = [\"{address}\"]");
        let text = [tenant("a", &listen(one)), tenant("b", &listen(other))].concat();
        assert_eq!(parse(&text).is_err(), meets, "{one} {other}");
        let text = tenant("a", &format!("listen = [\"{one}\", \"{other}\"]"));
        assert_eq!(parse(&text).is_err(), meets, "{one} {other}");
    }
}

#[test]
fn secrets_come_from_files_and_are_no_variables_too() {
    let folder = std::env::temp_dir().join(format!("conet-secrets-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("token"), "s3cret\n").expect("a file");
    let source = |more: &str| Source { name: "c".to_owned(), text: tenant("a", more) };
    let config = ServeConfig::parse(&source("secrets = { TOKEN = \"token\" }"), &folder).expect("right");
    assert_eq!(config.tenants[0].config.env[0].value, "s3cret");
    let both = source("secrets = { TOKEN = \"token\" }\nenv = { TOKEN = \"1\" }");
    assert!(ServeConfig::parse(&both, &folder).expect_err("twice").to_string().contains("which of them"));
    let none = source("secrets = { TOKEN = \"nothing\" }");
    let error = ServeConfig::parse(&none, &folder).expect_err("no file").to_string();
    assert!(error.contains("cannot read") && !error.contains("s3cret"), "{error}");
    fs::remove_dir_all(&folder).expect("it is ours");
}

#[test]
fn the_admin_socket_is_beside_the_file_and_its_address_is_loopback_s() {
    let host = |lines: &str| parse(&format!("[host]\n{lines}\n{}", tenant("a", "")));
    let config = host("admin = \"run/admin.sock\"").expect("right");
    assert_eq!(config.host.admin.expect("given").value, Path::new("/etc/conet/run/admin.sock"));
    for (address, is_right) in [
        ("127.0.0.1:7070", true),
        ("127.1.2.3:0", true),
        ("[::1]:7070", true),
        ("[::ffff:127.0.0.1]:7070", true),
        ("0.0.0.0:7070", false),
        ("[::]:7070", false),
        ("10.0.0.1:7070", false),
    ] {
        match host(&format!("admin-address = \"{address}\"")) {
            Ok(_) => assert!(is_right, "{address}"),
            Err(problems) => {
                let told = problems.to_string();
                assert!(!is_right && told.starts_with("conet.toml:2:17: "), "{address}: {told}");
                assert!(told.contains("put a proxy in front"), "{told}");
            }
        }
    }
}

#[test]
fn keys_for_what_is_not_there_are_refused_and_say_so() {
    let found = problems(&tenant("a", "[tenant.limits]\ntimers = 64\nchannel-bytes = \"1MiB\""));
    assert!(found[0].contains("`timers` has nothing to limit yet"), "{found:?}");
    assert!(
        found[1].contains("`channel-bytes` has nothing to limit yet: coroutines have no channels"),
        "{found:?}"
    );
    let found = problems(&tenant("a", "timers = 64"));
    assert!(found[0].contains("unknown"), "it would be a limit: {found:?}");
}

#[test]
fn bandwidth_is_bytes_in_a_second() {
    let limits = |lines: &str| parse(&tenant("a", &format!("[tenant.limits]\n{lines}")));
    let read = limits("bandwidth-in = \"10MiB/s\"\nconnection-bandwidth-out = \"1500/s\"").expect("right");
    let bandwidth = &read.tenants[0].config.limits.bandwidth;
    assert_eq!((bandwidth.tenant_in_max, bandwidth.connection_out_max), (Some(10 << 20), Some(1500)));
    assert_eq!((bandwidth.tenant_out_max, bandwidth.connection_in_max), (None, None));
    for wrong in ["\"10MiB\"", "\"10MB/s\"", "1000", "\"0/s\"", "\"fast\""] {
        let error = limits(&format!("bandwidth-in = {wrong}")).expect_err(wrong).to_string();
        assert!(error.contains("/s`") || error.contains("zero") || error.contains("MiB"), "{error}");
    }
}

#[test]
fn stacks_leave_the_host_its_part() {
    let found = problems(&tenant("a", "[tenant.limits]\nwasm-stack = \"256KiB\""));
    assert!(found[0].contains("raise fiber-stack"), "{found:?}");
}

#[test]
fn a_compiler_has_the_memory_that_it_needs_to_start() {
    let found = problems(&tenant("a", "[tenant.limits]\ncompile-memory = \"1MiB\""));
    assert!(found[0].contains("write 64MiB at least"), "{found:?}");
}

/// The defaults are written twice, as numbers and for people.
#[test]
fn the_reference_tells_the_defaults_that_hold() {
    use section::Section;
    let numbers = parse(&tenant("a", "")).expect("right").tenants.remove(0).config.limits;
    let written: String = limits::LimitsSection::KEYS
        .iter()
        .map(|key| format!("{} = {}\n", key.name, key.default.trim_matches('`')))
        .collect();
    let text = tenant("a", &format!("[tenant.limits]\n{written}"));
    assert_eq!(parse(&text).expect("right").tenants[0].config.limits, numbers);
}

#[test]
fn the_reference_in_the_docs_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.md");
    let text = fs::read_to_string(path).expect("docs/config.md is there");
    assert!(text == reference(), "run `conet-host config-reference > docs/config.md`");
}

#[test]
fn the_reference_s_example_is_right() {
    let reference = reference();
    let example = reference.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = example.expect("there is one").replace("secrets", "#");
    parse(&example).expect("it is right");
}

/// Whoever adds a limit says what is promised, how it is counted and which test holds it to that.
#[test]
fn every_limit_is_specified_counted_and_tested() {
    use section::Section;
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let text = fs::read_to_string(format!("{root}/SPECIFICATION.md")).expect("it is there");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let (of_tenant, of_host) = (crate::metrics::Metrics::default(), crate::metrics::HostCounters::default());
    let counters: Vec<&str> =
        of_tenant.snapshot().iter().chain(&of_host.snapshot()).map(|(name, _)| *name).collect();
    let quoted =
        |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    for key in limits::LimitsSection::KEYS {
        let row = rows.iter().find(|row| quoted(row[0]).iter().any(|name| name == key.name));
        let row = row.unwrap_or_else(|| panic!("SPECIFICATION.md has no row for `{}`", key.name));
        let [_, _, _, counted, tested] = row[..] else { panic!("`{}`: five columns", key.name) };
        let known = quoted(counted).iter().any(|name| counters.contains(&name.as_str()));
        assert!(known || counted.starts_with("not counted: "), "`{}`: no counter in {counted:?}", key.name);
        let tests = quoted(tested);
        assert!(!tests.is_empty() || tested.starts_with("no test yet: "), "`{}`: no test", key.name);
        for test in tests {
            let (file, function) = test.split_once("::").unwrap_or_else(|| panic!("{test} names no file"));
            let source = [format!("{root}/tests/tests/{file}.rs"), format!("{root}/host/src/{file}.rs")]
                .iter()
                .find_map(|path| fs::read_to_string(path).ok())
                .unwrap_or_else(|| panic!("{test}: no such file"));
            assert!(source.contains(&format!("fn {function}()")), "{test} is not there");
        }
    }
}

/// Each limit either can let pass what is beyond it, or says why it cannot; a new one has to choose.
#[test]
fn every_limit_can_warn_or_says_why_not() {
    use crate::config::warn::{STRICT, Warn};
    use section::Section;
    let grants = ["allow-listen", "allow-connect"];
    let limits: Vec<&str> = limits::LimitsSection::KEYS.iter().map(|key| key.name).collect();
    for key in &limits {
        let warns = Warn::ALL.iter().filter(|warn| warn.key() == *key).count();
        let strict = STRICT.iter().filter(|(strict, _)| strict == key).count();
        assert_eq!(warns + strict, 1, "`{key}`: add it to Warn or to STRICT, in config/warn.rs");
    }
    for key in Warn::ALL.iter().map(|warn| warn.key()).chain(STRICT.iter().map(|(key, _)| *key)) {
        assert!(limits.contains(&key) || grants.contains(&key), "`{key}` is no limit and no grant");
    }
}

/// Each that can warn has a row in the specification, which names a test that lets something pass.
#[test]
fn everything_that_warns_is_tested() {
    use crate::config::warn::Warn;
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let text = fs::read_to_string(format!("{root}/SPECIFICATION.md")).expect("it is there");
    let (_, chapter) = text.split_once("## What only warns").expect("there is a chapter");
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    let source = fs::read_to_string(format!("{root}/tests/tests/warn.rs")).expect("it is there");
    for warn in Warn::ALL {
        let row = chapter
            .lines()
            .find(|line| line.starts_with("| ") && line.contains(&format!("`{}`", warn.key())));
        let row = row.unwrap_or_else(|| panic!("`{}` has no row", warn.key()));
        let test = row.split("`warn::").nth(1).and_then(|rest| rest.split('`').next());
        let test = test.unwrap_or_else(|| panic!("`{}` names no test", warn.key()));
        assert!(source.contains(&format!("fn {test}()")), "{test} is not there");
    }
}

#[test]
fn what_warns_is_read_and_said_to_be_wrong() {
    let warns = |line: &str| parse(&tenant("t", line)).map(|config| config.tenants[0].config.warn);
    let set = warns("warn = [\"idle\", \"allow-connect\"]").expect("both can");
    assert_eq!(format!("{set:?}"), "{AllowConnect, Idle}");
    assert_eq!(warns("").expect("nothing does"), Default::default());
    for (line, says) in [
        ("warn = [\"wasm-stack\"]", "`wasm-stack` cannot let pass what is beyond it: the stack ends there"),
        ("warn = [\"conections\"]", "`conections` is no grant or limit that can warn"),
        ("warn = \"idle\"", "a list of keys"),
    ] {
        let error = warns(line).expect_err(line).to_string();
        assert!(error.contains(says) && error.contains("conet.toml:4"), "{error}");
    }
}
