//! TCP and Unix sockets through tokio.

use std::{io, path::Path};

use async_trait::async_trait;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::net::{Address, Listener, Net, Stream};

pub(crate) struct RealNet;

struct Tcp {
    listener: TcpListener,
    address: Address,
}

struct Unix {
    listener: UnixListener,
    address: Address,
}

#[async_trait]
impl Net for RealNet {
    async fn listen(&self, address: &Address) -> io::Result<Box<dyn Listener>> {
        match address {
            Address::Tcp(socket) => {
                let listener = TcpListener::bind(socket).await?;
                let address = Address::Tcp(listener.local_addr()?);
                Ok(Box::new(Tcp { listener, address }))
            }
            Address::Unix(path) => {
                clear_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                Ok(Box::new(Unix { listener, address: address.clone() }))
            }
        }
    }

    async fn connect(&self, address: &Address) -> io::Result<Box<dyn Stream>> {
        match address {
            Address::Tcp(socket) => {
                let stream = TcpStream::connect(socket).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        }
    }
}

/// Removes a socket that nobody listens on any more.
async fn clear_stale(path: &Path) -> io::Result<()> {
    match UnixStream::connect(path).await {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(_) => Ok(()),
    }
}

#[async_trait]
impl Listener for Tcp {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        let (stream, _) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}

#[async_trait]
impl Listener for Unix {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        let (stream, _) = self.listener.accept().await?;
        Ok(Box::new(stream))
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}
