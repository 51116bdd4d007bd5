//! The status page of a job over HTTP, for a browser on the same machine: how far it is, what runs, what failed, what
//! was left out, what was counted, how fast it went, and what its programs said. It only reads. How a job is run is not
//! known here.

mod html;

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{Semaphore, watch},
};
use world::{Address, Stream, Task, World};

use crate::{
    error::Error,
    job::{Crew, Watch},
    known,
    progress::View,
};

/// Bytes of a request; more is no request of a browser.
const REQUEST: usize = 8 << 10;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests at once.
const ABREAST: usize = 16;
const HTML: &str = "text/html; charset=utf-8";
/// The path of all logs; behind it, that of one.
const LOGS: &str = "/logs";

/// A page that is served until it is dropped.
pub struct Page {
    address: Address,
    task: Task,
}

impl Page {
    /// Serves what comes through `watch` at `address`, which must be of this machine only.
    ///
    /// # Errors
    /// If the address is not of this machine, or cannot be listened on.
    pub async fn serve(world: &World, address: &Address, watch: &Watch) -> Result<Self, Error> {
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
        let (view, crew) = (watch.page.subscribe(), watch.crew.subscribe());
        let task = world.spawn("status-page", async move {
            let slots = Arc::new(Semaphore::new(ABREAST));
            loop {
                let Ok(slot) = slots.clone().acquire_owned().await else { return };
                let Ok(stream) = listener.accept().await else {
                    own.clock.sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let (view, crew, world) = (view.clone(), crew.clone(), own.clone());
                own.spawn("status-request", async move {
                    let _slot = slot;
                    let deadline = world.clock.now() + PATIENCE;
                    // A browser that goes away is no failure.
                    let _ = world.until(deadline, answer(stream, &view, &crew)).await;
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

async fn answer(
    mut stream: Box<dyn Stream>,
    view: &watch::Receiver<View>,
    crew: &watch::Receiver<Option<Crew>>,
) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        if request.len() > REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let first = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let mut words = first.split(' ');
    let view = view.borrow().clone();
    let (status, kind, body) = match (words.next(), words.next()) {
        (Some("GET"), Some("/")) => ("200 OK", HTML, html::page(&view)),
        (Some("GET"), Some("/view.json")) => {
            let body = serde_json::to_string(&view).unwrap_or_default();
            ("200 OK", "application/json", body)
        }
        (Some("GET"), Some(path)) if path == LOGS || path.starts_with("/logs/") => {
            let label = path.strip_prefix("/logs/").unwrap_or_default();
            ("200 OK", HTML, logs(&view, crew, label).await)
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

/// What the programs of the job said, or one attempt's.
async fn logs(view: &View, crew: &watch::Receiver<Option<Crew>>, label: &str) -> String {
    let crew = crew.borrow().clone();
    let Some(Crew { job, peers, workers }) = crew else { return html::logs(view, label, &[]) };
    match known::logs(&peers, &workers, job).await {
        Ok(mut logs) => {
            logs.retain(|log| label.is_empty() || log.label == label);
            html::logs(view, label, &logs)
        }
        Err(error) => html::failed(view, &error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use world::World;

    use super::Page;
    use crate::{
        job::{Crew, Watch},
        peers::Peers,
        progress::{Attempt, Failure, Skip, View},
    };

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
                label: "m-00007-0".to_owned(),
                thousandths: 420,
                ..Attempt::default()
            }],
            failures: vec![Failure { reason: "a & b".to_owned(), ..Failure::default() }],
            skips: vec![Skip {
                task: "map 3".to_owned(),
                record: 12,
                reason: "<b>bad</b>".to_owned(),
            }],
            rates: vec![1 << 20, 3 << 20, 2 << 20],
            ..View::default()
        };
        let watch = Watch::default();
        watch.page.send_replace(view);
        let page = Page::serve(&world, &"127.0.0.1:0".parse().unwrap(), &watch).await.unwrap();
        let html = get(&world, &page, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(html.starts_with("HTTP/1.1 200 OK"), "{html}");
        for expected in [
            "map 7",
            "42.0 %",
            "a &amp; b",
            "<polyline",
            "&lt;script&gt;",
            "href=\"/logs/m-00007-0\"",
            "map 3<td>12<td><pre>&lt;b&gt;bad&lt;/b&gt;",
        ] {
            assert!(html.contains(expected), "{expected} is not in {html}");
        }
        assert!(!html.contains("<script"), "{html}");
        let json = get(&world, &page, "GET /view.json HTTP/1.1\r\n\r\n").await;
        assert!(json.contains("\"thousandths\":420"), "{json}");
        assert!(get(&world, &page, "GET /x HTTP/1.1\r\n\r\n").await.contains("404"));
        assert!(get(&world, &page, "POST / HTTP/1.1\r\n\r\n").await.contains("405"));
    }

    #[tokio::test]
    async fn logs_that_nobody_gives_are_said_to_be_missing_not_to_be_empty() {
        let (world, watch) = (World::real(), Watch::default());
        let page = Page::serve(&world, &"127.0.0.1:0".parse().unwrap(), &watch).await.unwrap();
        let asked = "GET /logs/m-00001-0 HTTP/1.1\r\n\r\n";
        assert!(get(&world, &page, asked).await.contains("said nothing"));
        let peers = Peers::new(&world, None);
        let workers = vec![crate::peers::Place("gone".to_owned())];
        watch.crew.send_replace(Some(Crew { job: 1, peers, workers }));
        let html = get(&world, &page, asked).await;
        assert!(html.contains("gone") && !html.contains("said nothing"), "{html}");
    }

    #[tokio::test]
    async fn the_page_is_not_shown_to_other_machines() {
        let watch = Watch::default();
        let refused = Page::serve(&World::real(), &"0.0.0.0:0".parse().unwrap(), &watch).await;
        assert!(refused.err().unwrap().to_string().contains("other machines"));
    }
}
