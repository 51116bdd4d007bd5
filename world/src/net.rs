//! Sockets: byte streams to an address, TCP or Unix. What is said over them is not known here.

use std::{fmt, io, net::SocketAddr, path::PathBuf, str::FromStr};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// Where a peer listens: `host:port` by number, or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(socket) => socket.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// The machine that it leads to, by its IP address; a Unix socket is on this one.
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            Self::Tcp(socket) => socket.ip().to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(socket) => write!(f, "{socket}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address: write 127.0.0.1:7000, [::1]:7000 or unix:/path/of/socket")]
pub struct AddressError(pub String);

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(AddressError(text.to_owned()));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        text.parse().map(Self::Tcp).map_err(|_| AddressError(text.to_owned()))
    }
}

/// A connected byte stream, both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A listening socket. Dropping it closes it.
#[async_trait]
pub trait Listener: Send + Sync {
    /// The next peer that connects.
    async fn accept(&self) -> io::Result<Box<dyn Stream>>;
    /// The address that peers can reach it at; a port 0 that was asked for has become a real one.
    fn address(&self) -> Address;
}

/// Where streams come from.
#[async_trait]
pub trait Net: Send + Sync {
    /// Listens. A Unix socket that a dead process left behind is replaced; one that answers is
    /// `AddrInUse`.
    async fn listen(&self, address: &Address) -> io::Result<Box<dyn Listener>>;
    /// Connects. TCP streams send small messages at once (no Nagle delay).
    async fn connect(&self, address: &Address) -> io::Result<Box<dyn Stream>>;
}
