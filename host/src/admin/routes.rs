//! What the admin answers.

use std::net::IpAddr;

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue},
};
use serde::Serialize;

use super::{
    Answer, Command, Observed,
    coroutines::{Query, coroutines},
    exposition::exposition,
    metrics::metrics,
    order::Order,
    status::Told,
};
use crate::roster::Doing;

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Over the socket: it is this user, or root.
    Unix,
    /// Over the address: it may be anybody on this machine, and any page that somebody here looks at.
    Address,
    /// Over the address for probes: it may be anybody.
    Probes,
}

type Reply = Response<Full<Bytes>>;

/// Answers one request. Its body is not looked at.
pub(super) async fn answer<B>(request: &Request<B>, door: Door, observed: &dyn Observed) -> Reply {
    if door == Door::Address && !names_an_address(request) {
        return text(StatusCode::FORBIDDEN, "the Host header must be an IP address or `localhost`");
    }
    match route(request.uri().path(), request.uri().query().unwrap_or_default())
        .filter(|route| door != Door::Probes || route.is_for_probes())
    {
        None => text(StatusCode::NOT_FOUND, "there is nothing here"),
        Some(Route::Page(page)) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            page.answer(request.uri().query().unwrap_or_default(), door, observed).await
        }
        Some(Route::Page(_)) => not_allowed("GET, HEAD"),
        Some(Route::Command(_)) if request.method() != Method::POST => not_allowed("POST"),
        Some(Route::Command(_)) if door != Door::Unix => {
            text(StatusCode::FORBIDDEN, "commands are taken on the admin's Unix socket only")
        }
        Some(Route::Command(command)) => command_answer(command, observed).await,
    }
}

enum Route {
    Page(Page),
    Command(Command),
}

impl Route {
    /// Nothing that tells what tenants are or do but in numbers.
    fn is_for_probes(&self) -> bool {
        matches!(self, Self::Page(Page::Health | Page::Readiness | Page::Metrics))
    }
}

enum Page {
    Dashboard,
    Health,
    Readiness,
    Metrics,
    Tenants,
    Coroutines,
}

fn route(path: &str, query: &str) -> Option<Route> {
    let page = match path {
        "/" => Page::Dashboard,
        "/healthz" => Page::Health,
        "/readyz" => Page::Readiness,
        "/metrics" => Page::Metrics,
        "/tenants" => Page::Tenants,
        "/coroutines" => Page::Coroutines,
        "/reload" => return Some(Route::Command(Command::Reload { retry: query == "retry" })),
        "/upgrade" => return Some(Route::Command(Command::Upgrade)),
        path => {
            let (name, verb) = path.strip_prefix("/tenants/")?.split_once('/')?;
            return match verb {
                "drain" => Some(Route::Command(Command::Drain(name.to_owned()))),
                "restart" => Some(Route::Command(Command::Restart(name.to_owned()))),
                _ => None,
            };
        }
    };
    Some(Route::Page(page))
}

impl Page {
    async fn answer(&self, query: &str, door: Door, observed: &dyn Observed) -> Reply {
        match self {
            Page::Dashboard => dashboard(),
            Page::Health => text(StatusCode::OK, "ok"),
            Page::Readiness => match observed.host().phase {
                phase if phase.accepts() => text(StatusCode::OK, phase.name()),
                phase => text(StatusCode::SERVICE_UNAVAILABLE, phase.name()),
            },
            Page::Metrics => {
                let families = metrics(&observed.host(), &observed.tenants(), &observed.rosters());
                let text = exposition(&families);
                reply(StatusCode::OK, METRICS_TYPE, text)
            }
            Page::Tenants => {
                let tenants = observed.tenants().into_iter().map(|tenant| tenant.status).collect();
                json(StatusCode::OK, &Told { host: observed.host(), tenants })
            }
            Page::Coroutines => match query.parse::<Query>() {
                Err(wrong) => text(StatusCode::BAD_REQUEST, &wrong),
                // To take them is work for the workers.
                Ok(query) if query.stacks && door == Door::Address => {
                    text(StatusCode::FORBIDDEN, "stacks are told on the admin's Unix socket only")
                }
                Ok(query) => json(StatusCode::OK, &coroutines(observed, &query).await),
            },
        }
    }
}

/// Nothing runs in it and nothing is fetched by it but what it has been given itself.
fn dashboard() -> Reply {
    let nonce = format!("{:032x}", u128::from_ne_bytes(random()));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let states: Vec<&str> = Doing::ALL.iter().map(|doing| doing.name()).collect();
    let states = serde_json::to_string(&states).expect("they are strings");
    let page = DASHBOARD.replace("NONCE", &nonce).replace("STATE_NAMES", &states);
    let mut reply = reply(StatusCode::OK, "text/html; charset=utf-8", page);
    let policy = HeaderValue::try_from(policy).expect("it is of plain characters");
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    reply
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

async fn command_answer(command: Command, observed: &dyn Observed) -> Reply {
    let (order, answered) = Order::new(command);
    observed.order(order);
    let (code, message) = match answered.await {
        Ok(Answer::Done(message)) => (StatusCode::OK, message),
        Ok(Answer::Unknown(message)) => (StatusCode::NOT_FOUND, message),
        Ok(Answer::Refused(message)) => (StatusCode::CONFLICT, message),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the host is ending".to_owned()),
    };
    text(code, &message)
}

/// A page of somebody else's, whose name was made to mean this machine, has that name here.
fn names_an_address<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let without_port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let name = without_port.map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || address.parse::<IpAddr>().is_ok()
}

fn not_allowed(allowed: &'static str) -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allowed}"));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

fn text(status: StatusCode, line: &str) -> Reply {
    reply(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let text = serde_json::to_string(value).expect("numbers and strings can be written");
    reply(status, "application/json", text + "\n")
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    reply
}

/// One page, with all that belongs to it.
const DASHBOARD: &str = include_str!("dashboard.html");
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{HostStatus, Observation, Phase, Process, TenantRoster};

    #[test]
    fn only_addresses_and_localhost_name_this_machine() {
        for (host, is_right) in [
            ("127.0.0.1:7070", true),
            ("127.0.0.1", true),
            ("[::1]:7070", true),
            ("[::1]", true),
            ("localhost:7070", true),
            ("localhost", true),
            ("evil.example:7070", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:80", false),
            ("", false),
        ] {
            let request = Request::builder().header(HOST, host).body(()).expect("a request");
            assert_eq!(names_an_address(&request), is_right, "{host}");
        }
        assert!(!names_an_address(&Request::new(())), "without a Host");
    }

    struct Host(Phase);

    impl Observed for Host {
        fn host(&self) -> HostStatus {
            let process = Process::read();
            HostStatus {
                version: String::new(),
                phase: self.0,
                uptime_seconds: 0.0,
                workers: 1,
                loads: Vec::new(),
                counters: Default::default(),
                exports: 0,
                export_failures: 0,
                process,
            }
        }

        fn tenants(&self) -> Vec<Observation> {
            Vec::new()
        }

        fn rosters(&self) -> Vec<TenantRoster> {
            Vec::new()
        }

        fn exported(&self, _taken: bool) {}

        /// It is ending.
        fn order(&self, order: Order) {
            drop(order);
        }
    }

    fn status(method: Method, path: &str, phase: Phase) -> u16 {
        let request = Request::builder().method(method).uri(path).body(()).expect("a request");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(answer(&request, Door::Unix, &Host(phase))).status().as_u16()
    }

    #[test]
    fn it_is_alive_before_it_is_ready_and_no_longer_ready_when_it_drains() {
        for (phase, ready) in
            [(Phase::Starting, 503), (Phase::Ready, 200), (Phase::Upgrading, 200), (Phase::Draining, 503)]
        {
            assert_eq!(status(Method::GET, "/healthz", phase), 200, "{phase:?}");
            assert_eq!(status(Method::GET, "/readyz", phase), ready, "{phase:?}");
        }
    }

    #[test]
    fn a_command_that_the_end_of_the_host_overtakes_is_told_so() {
        assert_eq!(status(Method::POST, "/tenants/a/drain", Phase::Draining), 503);
        assert_eq!(status(Method::GET, "/tenants/a/drain", Phase::Ready), 405);
    }

    #[test]
    fn paths_that_nearly_are_commands_are_none() {
        for path in
            ["/tenants/", "/tenants/a", "/tenants/a/", "/tenants/a/drain/", "/tenants/a/b/drain", "/drain"]
        {
            assert!(route(path, "").is_none(), "{path}");
        }
    }
}
