//! The status page of a job over HTTP, for a browser on the same machine: how far it is, what runs, what failed, what
//! was counted, and how fast it went. It only reads. How a job is run is not known here.

mod html;

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{Semaphore, watch},
};
use world::{Address, Stream, Task, World};

use crate::{error::Error, progress::View};

/// Bytes of a request; more is no request of a browser.
const REQUEST: usize = 8 << 10;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests at once.
const ABREAST: usize = 16;

/// A page that is served until it is dropped.
pub struct Page {
    address: Address,
    task: Task,
}

impl Page {
    /// Serves what comes through `view` at `address`, which must be of this machine only.
    ///
    /// # Errors
    /// If the address is not of this machine, or cannot be listened on.
    pub async fn serve(
        world: &World,
        address: &Address,
        view: watch::Receiver<View>,
    ) -> Result<Self, Error> {
        if !address.is_local() {
            return Err(Error::Spec(format!(
                "the status page is not protected: {address} would show it to other machines"
            )));
        }
        let listener = world
            .net
            .listen(address)
            .await
            .map_err(|error| Error::disk(format!("listening on {address}"), error))?;
        let address = listener.address();
        let own = world.clone();
        let task = world.spawn("status-page", async move {
            let slots = Arc::new(Semaphore::new(ABREAST));
            loop {
                let Ok(slot) = slots.clone().acquire_owned().await else { return };
                let Ok(stream) = listener.accept().await else {
                    own.clock.sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let (view, world) = (view.borrow().clone(), own.clone());
                own.spawn("status-request", async move {
                    let _slot = slot;
                    let deadline = world.clock.now() + PATIENCE;
                    // A browser that goes away is no failure.
                    let _ = world.until(deadline, answer(stream, &view)).await;
                });
            }
        });
        Ok(Self { address, task })
    }

    /// Where a browser finds it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: Box<dyn Stream>, view: &View) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        if request.len() > REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let first = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let mut words = first.split(' ');
    let (status, kind, body) = match (words.next(), words.next()) {
        (Some("GET"), Some("/")) => ("200 OK", "text/html; charset=utf-8", html::page(view)),
        (Some("GET"), Some("/view.json")) => {
            let body = serde_json::to_string(view).unwrap_or_default();
            ("200 OK", "application/json", body)
        }
        (Some("GET"), _) => ("404 Not Found", "text/plain", "there is no such page\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "only GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::watch,
    };
    use world::World;

    use super::Page;
    use crate::progress::{Attempt, Failure, View};

    async fn get(world: &World, page: &Page, request: &str) -> String {
        let mut stream = world.net.connect(&page.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_browser_sees_the_job_and_nothing_can_be_smuggled_into_the_page() {
        let world = World::real();
        let view = View {
            name: "<script>alert(1)</script>".to_owned(),
            attempts: vec![Attempt {
                task: "map 7".to_owned(),
                thousandths: 420,
                ..Attempt::default()
            }],
            failures: vec![Failure { reason: "a & b".to_owned(), ..Failure::default() }],
            rates: vec![1 << 20, 3 << 20, 2 << 20],
            ..View::default()
        };
        let (_sender, receiver) = watch::channel(view);
        let page = Page::serve(&world, &"127.0.0.1:0".parse().unwrap(), receiver).await.unwrap();
        let html = get(&world, &page, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(html.starts_with("HTTP/1.1 200 OK"), "{html}");
        for expected in ["map 7", "42.0 %", "a &amp; b", "<polyline", "&lt;script&gt;"] {
            assert!(html.contains(expected), "{expected} is not in {html}");
        }
        assert!(!html.contains("<script"), "{html}");
        let json = get(&world, &page, "GET /view.json HTTP/1.1\r\n\r\n").await;
        assert!(json.contains("\"thousandths\":420"), "{json}");
        assert!(get(&world, &page, "GET /x HTTP/1.1\r\n\r\n").await.contains("404"));
        assert!(get(&world, &page, "POST / HTTP/1.1\r\n\r\n").await.contains("405"));
    }

    #[tokio::test]
    async fn the_page_is_not_shown_to_other_machines() {
        let (_sender, receiver) = watch::channel(View::default());
        let refused = Page::serve(&World::real(), &"0.0.0.0:0".parse().unwrap(), receiver).await;
        assert!(refused.err().unwrap().to_string().contains("other machines"));
    }
}
