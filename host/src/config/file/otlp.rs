//! `[host.otlp]`: a collector that metrics are sent to.

use std::{collections::BTreeMap, time::Duration};

use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};
use serde_spanned::Spanned;
use toml::de::DeValue;

use super::{
    problems::Found,
    section::{Read, section},
    setting::Setting,
    table::Table,
};

section! {
    /// A collector of OpenTelemetry, to which what `/metrics` tells is sent by OTLP over HTTP, as protobuf. It is taken from here at the
    /// start alone.
    pub struct OtlpSection {
        /// Where it is. `/v1/metrics` is added, if it does not end so.
        "endpoint": endpoint: Endpoint = "",
        /// From one time to the next.
        "interval": interval: Duration = "`\"10s\"`",
        /// More headers of each request, as a collector may want to know who sends.
        "headers": headers: Headers = "none",
        /// What is told of this host with all values, besides or instead of `service.name` (`conet`), `service.version`,
        /// `service.instance.id` (another one each time it starts), `host.name` and `process.pid`.
        "resource": resource: BTreeMap<String, String> = "empty",
    }
}

/// As a table that stands for one value.
impl Setting for OtlpSection {
    const WRITTEN: &'static str =
        "a table, as in `{ endpoint = \"http://127.0.0.1:4318\" }`; its keys are below";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let table = Table::new(value, "[host.otlp]", found)?;
        let section = <Self as Read>::read(&table);
        if !table.has("endpoint") {
            found.add(
                table.span(),
                "[host.otlp] has no endpoint: add `endpoint = \"http://127.0.0.1:4318\"`, as a collector listens there",
            );
        }
        if section.interval.as_ref().is_some_and(|interval| interval.value.is_zero()) {
            found.add(table.span(), "the interval of [host.otlp] is zero: write `\"10s\"`, say");
        }
        table.finish(&[]);
        Some(section)
    }
}

/// `http://HOST:PORT/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// With the port.
    pub authority: String,
    /// Of the request.
    pub path: String,
}

impl Setting for Endpoint {
    const WRITTEN: &'static str = "a URL of plain HTTP, as in `\"http://127.0.0.1:4318\"`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let text = String::read(value, found)?;
        let endpoint = endpoint(&text);
        if endpoint.is_none() {
            found.add(
                value.span(),
                format!(
                    "write {}; this is `{text}`. For one elsewhere, run a collector on this machine that passes \
                     on over TLS",
                    Self::WRITTEN
                ),
            );
        }
        endpoint
    }
}

fn endpoint(text: &str) -> Option<Endpoint> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    if uri.scheme_str() != Some("http") || uri.query().is_some() || authority.host().is_empty() {
        return None;
    }
    let port = authority.port_u16().unwrap_or(HTTP_PORT);
    let path = uri.path().trim_end_matches('/');
    let path = path.strip_suffix(METRICS_PATH).unwrap_or(path);
    Some(Endpoint {
        authority: format!("{}:{port}", authority.host()),
        path: format!("{path}{METRICS_PATH}"),
    })
}

/// Names and values of headers.
#[derive(Debug, Clone)]
pub struct Headers(pub Vec<(HeaderName, HeaderValue)>);

impl Setting for Headers {
    const WRITTEN: &'static str = "a table of strings, as in `{ Authorization = \"Bearer …\" }`";

    fn read(value: &Spanned<DeValue<'_>>, found: &Found) -> Option<Self> {
        let texts = BTreeMap::<String, String>::read(value, found)?;
        let mut headers = Vec::new();
        for (name, text) in texts {
            match (HeaderName::try_from(&name), HeaderValue::try_from(&text)) {
                (Ok(name), Ok(mut text)) => {
                    text.set_sensitive(true);
                    headers.push((name, text));
                }
                _ => found.add(value.span(), format!("`{name}` and its value cannot be a header")),
            }
        }
        Some(Headers(headers))
    }
}

const METRICS_PATH: &str = "/v1/metrics";
const HTTP_PORT: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, authority, path) in [
            ("http://127.0.0.1:4318", "127.0.0.1:4318", "/v1/metrics"),
            ("http://127.0.0.1:4318/", "127.0.0.1:4318", "/v1/metrics"),
            ("http://[::1]:4318/v1/metrics", "[::1]:4318", "/v1/metrics"),
            ("http://collector/otlp/", "collector:80", "/otlp/v1/metrics"),
        ] {
            let endpoint = endpoint(text).expect(text);
            assert_eq!((&*endpoint.authority, &*endpoint.path), (authority, path), "{text}");
        }
        for text in
            ["", "127.0.0.1:4318", "https://collector:4318", "http://", "http://a?b=c", "http://u:p@a"]
        {
            assert_eq!(endpoint(text), None, "{text}");
        }
    }
}
