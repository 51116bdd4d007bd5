//! The page itself: one document without scripts, which the browser loads again every second. Pure.

use std::fmt::Write as _;

use crate::progress::{Phase, View};

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222}\
h1{font-size:1.3rem}h2{font-size:1rem;margin-top:1.6rem}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;padding:.2rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}\
pre{white-space:pre-wrap;margin:0}progress{width:100%;height:.8rem}svg{width:100%;height:8rem;background:#f6f6f6}";

/// What has a meaning in HTML is taken out of a text.
fn text(raw: &str) -> String {
    raw.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The page of a job.
pub(super) fn page(view: &View) -> String {
    let now = &view.progress;
    let mut page = String::new();
    let over = matches!(now.phase, Phase::Done | Phase::Failed);
    let again = if over { "" } else { "<meta http-equiv=\"refresh\" content=\"1\">" };
    let title = format!("{} {}", text(&view.name), text(&view.id));
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">{again}<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
    );
    let _ = write!(
        page,
        "<p>{:?} after {:.1} s; output in {}</p>{}{}",
        now.phase,
        now.elapsed.as_secs_f64(),
        text(&view.output),
        bar("maps", now.maps),
        bar("reduces", now.reduces)
    );
    let eta = now.eta.map_or(String::new(), |eta| format!(", about {} s to go", eta.as_secs()));
    let _ = write!(
        page,
        "<p>{} of {} read, {}/s{eta}; {} workers, {} attempts failed, {} backup attempts, {} records skipped</p>",
        mebibytes(now.bytes.0),
        mebibytes(now.bytes.1),
        mebibytes(now.bytes_per_second),
        now.workers,
        now.failures,
        now.backups,
        view.skipped
    );
    rates(view, &mut page);
    attempts(view, &mut page);
    failures(view, &mut page);
    counters(view, &mut page);
    page.push_str("<p><a href=\"/view.json\">as JSON</a></p></body></html>");
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
        mebibytes(most),
        (view.rate_every * width as u32).as_secs(),
        points.join(" ")
    );
}

fn attempts(view: &View, page: &mut String) {
    if view.attempts.is_empty() {
        return;
    }
    page.push_str("<h2>Running</h2><table><tr><th>task<th>attempt<th>worker<th>done<th>time</tr>");
    for attempt in &view.attempts {
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{:.1} %<td>{:.1} s</tr>",
            text(&attempt.task),
            attempt.attempt,
            text(&attempt.worker),
            f64::from(attempt.thousandths) / 10.0,
            attempt.since.as_secs_f64()
        );
    }
    page.push_str("</table>");
}

fn failures(view: &View, page: &mut String) {
    if view.failures.is_empty() {
        return;
    }
    page.push_str("<h2>Latest failures</h2><table><tr><th>task<th>attempt<th>worker<th>why</tr>");
    for failure in &view.failures {
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td><pre>{}</pre></tr>",
            text(&failure.task),
            failure.attempt,
            text(&failure.worker),
            text(&failure.reason)
        );
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
