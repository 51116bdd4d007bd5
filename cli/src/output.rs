//! How a command talks: tables and colour on a terminal, plain text in a pipe, JSON on request.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{Cell, Color, Table, presets};

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    terminal: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, terminal: std::io::stdout().is_terminal() && !plain }
    }

    /// This, or JSON if that is asked for after all.
    pub(crate) fn or_json(self, json: bool) -> Self {
        Self { json: self.json || json, ..self }
    }

    /// A line for people; nothing with `--json`.
    pub(crate) fn line(self, text: &str) {
        if !self.json {
            print(text);
        }
    }

    /// A heading for people.
    pub(crate) fn heading(self, text: &str) {
        if self.terminal {
            self.line(&format!("\x1b[1m{text}\x1b[0m"));
        } else {
            self.line(text);
        }
    }

    /// JSON for scripts; nothing without `--json`.
    pub(crate) fn json(self, value: &serde_json::Value) {
        if self.json {
            print(&value.to_string());
        }
    }

    /// A table for people.
    pub(crate) fn table(self, header: &[&str], rows: Vec<Vec<String>>) {
        if self.json {
            return;
        }
        if rows.is_empty() {
            print("  (none)");
            return;
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(header.iter().map(|title| {
            let cell = Cell::new(title);
            if self.terminal { cell.fg(Color::DarkGrey) } else { cell }
        }));
        for row in rows {
            table.add_row(row.into_iter().map(|text| self.cell(text)));
        }
        print(&table.to_string());
    }

    fn cell(self, text: String) -> Cell {
        let color = match text.as_str() {
            "up" | "leader" | "live" | "clean" => Some(Color::Green),
            "down" | "expired" | "silent" | "stopped" => Some(Color::Red),
            "rebuilding" | "learner" | "candidate" => Some(Color::Yellow),
            _ => None,
        };
        match color {
            Some(color) if self.terminal => Cell::new(text).fg(color),
            _ => Cell::new(text),
        }
    }
}

/// Writes a line to standard output. A closed pipe is the reader's wish to hear no more.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Bytes for people: `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// A span of time for people: `3.2 s`.
pub(crate) fn seconds(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}
