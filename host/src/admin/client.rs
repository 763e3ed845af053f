//! Asking the admin of a host that runs, over its Unix socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::handshake,
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, runtime::Builder, time::timeout};

/// The admin at a socket.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
}

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no host listens at {path}: {error}; `[host] admin` in its file says where, and --socket or $CONET_ADMIN here"
    )]
    Connect {
        /// The socket's.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// The exchange failed.
    #[error("the host at {path} does not answer: {error}")]
    Exchange {
        /// The socket's.
        path: PathBuf,
        /// What went wrong.
        error: String,
    },
    /// It has refused.
    #[error("{message}")]
    Refused {
        /// HTTP's.
        status: StatusCode,
        /// Its words.
        message: String,
    },
}

impl Client {
    /// At this socket.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The answer to a GET.
    pub fn get(&self, target: &str) -> Result<String, ClientError> {
        self.ask(Method::GET, target, PATIENCE)
    }

    /// The answer to a POST.
    pub fn post(&self, target: &str) -> Result<String, ClientError> {
        self.ask(Method::POST, target, PATIENCE_WITH_COMMANDS)
    }

    fn ask(&self, method: Method, target: &str, patience: Duration) -> Result<String, ClientError> {
        let failed = |error: String| ClientError::Exchange { path: self.path.clone(), error };
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| failed(error.to_string()))?;
        runtime.block_on(async {
            let stream = UnixStream::connect(&self.path).await;
            let stream = stream.map_err(|error| ClientError::Connect { path: self.path.clone(), error })?;
            let exchanged = timeout(patience, exchange(stream, method, target)).await;
            let exchanged = exchanged.unwrap_or_else(|_| Err(format!("nothing within {patience:?}").into()));
            let (status, text) = exchanged.map_err(|error| failed(error.to_string()))?;
            match status {
                StatusCode::OK => Ok(text),
                status => Err(ClientError::Refused { status, message: text.trim_end().to_owned() }),
            }
        })
    }
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    target: &str,
) -> Result<(StatusCode, String), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Its error comes to the request, too.
    tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() = target.parse()?;
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?;
    Ok((status, String::from_utf8(body.to_bytes().into())?))
}

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// A reload compiles, and so does the next version: the host itself sets an end to it.
const PATIENCE_WITH_COMMANDS: Duration = Duration::from_secs(16 * 60);
/// Thousands of tenants fit.
const ANSWER_BYTES_MAX: usize = 64 << 20;
