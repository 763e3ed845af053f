//! docs/config.md, written from the sections' types.

use std::fmt::Write;

use super::{
    host::HostSection,
    limits::LimitsSection,
    otlp::OtlpSection,
    rollback::RollbackSection,
    section::{Key, Section},
    tenant::{CommonSection, IdentitySection},
};

/// The reference, as Markdown.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    chapter::<HostSection>(&mut text, "`[host]`");
    chapter::<OtlpSection>(&mut text, "`[host.otlp]`");
    chapter::<IdentitySection>(&mut text, "`[[tenant]]`");
    chapter::<CommonSection>(&mut text, "`[[tenant]]` and `[defaults]`");
    chapter::<RollbackSection>(&mut text, "`rollback` of `[[tenant]]` and `[defaults]`");
    chapter::<LimitsSection>(&mut text, "`[tenant.limits]` and `[defaults.limits]`");
    text
}

fn chapter<S: Section>(text: &mut String, title: &str) {
    let about = prose(S::ABOUT);
    // Writing to a string cannot fail.
    let _ =
        write!(text, "\n## {title}\n\n{about}\n\n| key | | written | if not given |\n|---|---|---|---|\n");
    for Key { name, about, written, default } in S::KEYS {
        let default = if default.is_empty() { "must be given" } else { default };
        let _ =
            writeln!(text, "| `{name}` | {} | {} | {default} |", prose(about), written.replace('|', "\\|"));
    }
}

fn prose(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

const HEAD: &str = "\
# conet.toml

What `conet-host serve conet.toml` runs: the process, and any number of tenants. `conet-host check conet.toml` says all that is
wrong with a file, each with its line, and starts nothing. Paths are relative to the file's folder, keys that are not
listed here are refused, and so are two tenants of one name or on one address.

```toml
[host]
workers = 2

[defaults.limits]
connections = 2000

[[tenant]]
name = \"echo\"
component = \"echo-handler.wasm\"
listen = [\"127.0.0.1:7000\"]

[[tenant]]
name = \"shop\"
component = \"shop.wasm\"
args = [\"127.0.0.1:7001\"]
allow-listen = [\"127.0.0.1:7001\"]
allow-connect = [\"redis.internal:6379\"]
secrets = { TOKEN = \"/run/secrets/token\" }
weight = 3

[tenant.limits]
shared-memory = \"128MiB\"
```

This file is written by `conet-host config-reference`.
";
