//! Sends the metrics to a collector of OpenTelemetry, by OTLP over HTTP, again and again. What cannot be sent is not
//! kept: all values are totals, so the next ones have everything.

mod message;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::handshake,
    header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{Observed, metrics::metrics};

use message::message;

/// Where to, how often, and as whose.
#[derive(Debug, Clone)]
pub struct Export {
    /// A host and a port.
    pub authority: String,
    /// Where on it.
    pub path: String,
    /// From one to the next.
    pub interval: Duration,
    /// More headers of each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What is told of this process with all of them.
    pub resource: Vec<(String, String)>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Does it until it is dropped.
pub(super) async fn export(export: Export, observed: Arc<dyn Observed>) {
    let mut failures = 0_u32;
    loop {
        sleep(export.pause(failures)).await;
        let (host, tenants) = (observed.host(), observed.tenants());
        let began = SystemTime::now() - Duration::try_from_secs_f64(host.uptime_seconds).unwrap_or_default();
        let body = message(
            &metrics(&host, &tenants, &observed.rosters()),
            &export.resource,
            began,
            SystemTime::now(),
        );
        let sent = timeout(EXPORT_MAX, export.post(body.encode_to_vec())).await;
        let sent = sent.unwrap_or_else(|_| Err(format!("nothing within {EXPORT_MAX:?}").into()));
        observed.exported(sent.is_ok());
        match &sent {
            Ok(()) if failures > 0 => info!("the collector at {} takes metrics again", export.authority),
            Ok(()) => {}
            // Once, and not at each attempt.
            Err(error) if failures == 0 => {
                warn!("the collector at {} takes no metrics: {error}; it is tried again", export.authority);
            }
            Err(_) => {}
        }
        failures = if sent.is_ok() { 0 } else { failures.saturating_add(1) };
    }
}

impl Export {
    /// Until the next attempt: soon after a failure, then ever later.
    fn pause(&self, failures: u32) -> Duration {
        match failures.checked_sub(1) {
            None => self.interval,
            Some(before) => (RETRY_MIN * 2_u32.saturating_pow(before)).min(self.interval.max(RETRY_MAX)),
        }
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), Failure> {
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its error comes to the request, too.
        let connection = tokio::spawn(connection);
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.parse()?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.parse()?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.extend(self.headers.iter().cloned());
        let response = sender.send_request(request).await?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
        connection.abort();
        if status != StatusCode::OK {
            return Err(format!("it answers {status}").into());
        }
        let partial = ExportMetricsServiceResponse::decode(answer)?.partial_success;
        match partial.filter(|partial| partial.rejected_data_points > 0) {
            None => Ok(()),
            Some(partial) => {
                let (count, why) = (partial.rejected_data_points, partial.error_message);
                Err(format!("it rejects {count} of the values: {why:?}").into())
            }
        }
    }
}

/// An attempt from its beginning to its end.
const EXPORT_MAX: Duration = Duration::from_secs(10);
/// After one failure; after each other twice as long.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// As long at most, or as the interval is.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// An answer has a few words at most.
const ANSWER_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_it_is_tried_soon_and_then_ever_later() {
        let export = |seconds| Export {
            authority: String::new(),
            path: String::new(),
            interval: Duration::from_secs(seconds),
            headers: Vec::new(),
            resource: Vec::new(),
        };
        let pauses =
            |seconds: u64| [0, 1, 2, 5, 100].map(|failures| export(seconds).pause(failures).as_secs());
        assert_eq!(pauses(10), [10, 1, 2, 16, 60]);
        assert_eq!(pauses(300), [300, 1, 2, 16, 300]);
    }
}
