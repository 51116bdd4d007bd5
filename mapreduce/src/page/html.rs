//! The pages themselves: documents without scripts; that of the job is loaded again every second. Pure.

use std::fmt::Write as _;

use crate::{
    error::Error,
    known::Log,
    progress::{Phase, View},
};

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222}\
h1{font-size:1.3rem}h2{font-size:1rem;margin-top:1.6rem}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;padding:.2rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}\
pre{white-space:pre-wrap;margin:0}progress{width:100%;height:.8rem}svg{width:100%;height:8rem;background:#f6f6f6}";

/// What has a meaning in HTML is taken out of a text.
fn text(raw: &str) -> String {
    raw.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn amount(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

/// The begin of every page; `again` has the browser load it anew.
fn head(view: &View, again: &str) -> String {
    let title = format!("{} {}", text(&view.name), text(&view.id));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">{again}<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
    )
}

/// What the programs of a job said on standard error; one attempt of it if `label` names it.
pub(super) fn logs(view: &View, label: &str, logs: &[Log]) -> String {
    let mut page = head(view, "");
    if logs.is_empty() {
        let who = if label.is_empty() { "The programs have".to_owned() } else { text(label) };
        let _ = write!(page, "<p>{who} said nothing on standard error.</p>");
    }
    for log in logs {
        let (label, place) = (text(&log.label), text(&log.place.0));
        let said = text(&String::from_utf8_lossy(&log.text));
        let _ = write!(page, "<h2 id=\"{label}\">{label} on {place}</h2><pre>{said}</pre>");
    }
    page.push_str("<p><a href=\"/\">the job</a></p></body></html>");
    page
}

/// The logs cannot be had.
pub(super) fn failed(view: &View, error: &Error) -> String {
    let error = text(&error.to_string());
    format!("{}<p>{error}</p><p><a href=\"/\">the job</a></p></body></html>", head(view, ""))
}

/// A link to what an attempt said.
fn log(label: &str) -> String {
    let label = text(label);
    format!("<a href=\"/logs/{label}\">log</a>")
}

/// The page of a job.
pub(super) fn page(view: &View) -> String {
    let now = &view.progress;
    let mut page = String::new();
    let over = matches!(now.phase, Phase::Done | Phase::Failed);
    let again = if over { "" } else { "<meta http-equiv=\"refresh\" content=\"1\">" };
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "{}<p>{:?} after {:.1} s; output in {}</p>{}{}",
        head(view, again),
        now.phase,
        now.elapsed.as_secs_f64(),
        text(&view.output),
        bar("maps", now.maps),
        bar("reduces", now.reduces)
    );
    let eta = now.eta.map_or(String::new(), |eta| format!(", about {} s to go", eta.as_secs()));
    let _ = write!(
        page,
        "<p>{} of {} read, {}/s{eta}; {} workers, {} attempts failed, {} stragglers, {} backup attempts, {} records skipped</p>",
        amount(now.bytes.0),
        amount(now.bytes.1),
        amount(now.bytes_per_second),
        now.workers,
        now.failures,
        now.stragglers,
        now.backups,
        view.skipped
    );
    rates(view, &mut page);
    attempts(view, &mut page);
    failures(view, &mut page);
    skips(view, &mut page);
    counters(view, &mut page);
    page.push_str(
        "<p><a href=\"/logs\">all logs</a>, <a href=\"/view.json\">as JSON</a></p></body></html>",
    );
    page
}

fn bar(name: &str, (done, all): (u32, u32)) -> String {
    format!(
        "<p>{name} {done} of {all}<br><progress value=\"{done}\" max=\"{}\"></progress></p>",
        all.max(1)
    )
}

/// How fast the input was read, as a picture.
fn rates(view: &View, page: &mut String) {
    let most = view.rates.iter().copied().max().unwrap_or(0);
    if view.rates.len() < 2 || most == 0 {
        return;
    }
    let width = view.rates.len() - 1;
    let point = |(at, rate): (usize, &u64)| {
        format!(
            "{:.1},{:.1}",
            at as f64 * 600.0 / width as f64,
            98.0 - *rate as f64 * 95.0 / most as f64
        )
    };
    let points: Vec<_> = view.rates.iter().enumerate().map(point).collect();
    let _ = write!(
        page,
        "<h2>Input read, up to {}/s, over {} s</h2><svg viewBox=\"0 0 600 100\" preserveAspectRatio=\"none\"><polyline fill=\"none\" stroke=\"#7a1f5c\" stroke-width=\"2\" points=\"{}\"/></svg>",
        amount(most),
        (view.rate_every * width as u32).as_secs(),
        points.join(" ")
    );
}

fn attempts(view: &View, page: &mut String) {
    if view.attempts.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Running</h2><table><tr><th>task<th>attempt<th>worker<th>done<th>time<th></tr>",
    );
    for attempt in &view.attempts {
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{:.1} %<td>{:.1} s<td>{}</tr>",
            text(&attempt.task),
            attempt.attempt,
            text(&attempt.worker),
            f64::from(attempt.thousandths) / 10.0,
            attempt.since.as_secs_f64(),
            log(&attempt.label)
        );
    }
    page.push_str("</table>");
}

fn failures(view: &View, page: &mut String) {
    if view.failures.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Latest failures</h2><table><tr><th>task<th>attempt<th>worker<th>why<th></tr>",
    );
    for failure in &view.failures {
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td><pre>{}</pre><td>{}</tr>",
            text(&failure.task),
            failure.attempt,
            text(&failure.worker),
            text(&failure.reason),
            log(&failure.label)
        );
    }
    page.push_str("</table>");
}

fn skips(view: &View, page: &mut String) {
    if view.skips.is_empty() {
        return;
    }
    page.push_str("<h2>Skipped records</h2><table><tr><th>task<th>record<th>why</tr>");
    for skip in &view.skips {
        let (task, reason) = (text(&skip.task), text(&skip.reason));
        let _ = write!(page, "<tr><td>{task}<td>{}<td><pre>{reason}</pre></tr>", skip.record);
    }
    page.push_str("</table>");
}

fn counters(view: &View, page: &mut String) {
    page.push_str("<h2>Counters</h2><table>");
    for (group, name, value) in view.counters.iter() {
        let _ = write!(page, "<tr><td>{}<td>{}<td>{value}</tr>", text(group), text(name));
    }
    page.push_str("</table>");
}
