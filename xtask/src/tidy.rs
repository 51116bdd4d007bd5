//! Tidiness that no compiler checks: the dependency table, the size of files, the head of every
//! file, the paths that documents name. It knows nothing of what the code does.
//!
//! The size of functions is checked by clippy (`too_many_lines`, 70 lines).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::table::{self, Allowed};

/// Lines that a source file may have.
const LINES_MAX: usize = 600;

/// Reports everything that is untidy under `root`.
pub(crate) fn check(root: &Path) -> Result<()> {
    let files = tracked(root)?;
    let mut findings = Vec::new();
    dependencies(root, &table::read(root)?, &mut findings)?;
    for file in &files {
        let bytes =
            std::fs::read(root.join(file)).with_context(|| format!("read {}", file.display()))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => source(file, &text, &mut findings),
            Some("md") => document(root, file, &text, &mut findings),
            _ => {}
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} untidy places:\n  {}", findings.len(), findings.join("\n  "));
}

/// The files that git tracks or would track.
fn tracked(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("list the files with git")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let list = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    Ok(list.lines().map(PathBuf::from).filter(|file| root.join(file).is_file()).collect())
}

/// Every room stands in the table and names no room that the table does not grant it.
fn dependencies(
    root: &Path,
    table: &BTreeMap<String, Allowed>,
    findings: &mut Vec<String>,
) -> Result<()> {
    let workspace = manifest(&root.join("Cargo.toml"))?;
    let members = workspace["workspace"]["members"].as_array().context("workspace.members")?;
    let rooms: Vec<&str> = members.iter().filter_map(toml::Value::as_str).collect();
    for room in &rooms {
        let Some(allowed) = table.get(*room) else {
            findings.push(format!("{room}: not in the table of ARCHITECTURE.md"));
            continue;
        };
        let manifest = manifest(&root.join(room).join("Cargo.toml"))?;
        for section in ["dependencies", "build-dependencies"] {
            let Some(named) = manifest.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for name in named.keys().filter(|name| rooms.contains(&name.as_str())) {
                if !allowed.permits(name) {
                    findings.push(format!(
                        "{room}/Cargo.toml: depends on `{name}`, which the table of ARCHITECTURE.md does not grant"
                    ));
                }
            }
        }
    }
    for room in table.keys().filter(|room| !rooms.contains(&room.as_str())) {
        findings.push(format!("ARCHITECTURE.md: the table names `{room}`, which is no member"));
    }
    Ok(())
}

fn manifest(path: &Path) -> Result<toml::Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(toml::Value::Table(
        toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?,
    ))
}

fn source(file: &Path, text: &str, findings: &mut Vec<String>) {
    let name = file.display();
    if !text.starts_with("//!") {
        findings
            .push(format!("{name}: does not begin with `//!` (what, why, what it does not know)"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.push(format!("{name}: {lines} lines; split it by role below {LINES_MAX}"));
    }
    // Spelled in two halves so that this file does not find itself.
    let marks = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        if !line.is_ascii() {
            findings.push(format!("{name}:{number}: not ASCII"));
        }
        if line.trim_end() != line {
            findings.push(format!("{name}:{number}: trailing blanks"));
        }
        if line.trim_start().starts_with("pub use") && line.contains("::*") {
            findings.push(format!("{name}:{number}: `pub use ...::*` hides what is public"));
        }
        if marks.iter().any(|mark| line.contains(mark)) {
            findings.push(format!("{name}:{number}: a leftover mark; do it or open an issue"));
        }
    }
}

/// Every path that a document names in backticks exists. A word counts as a path if its first part
/// is an entry of the root and it has a slash or a file ending.
fn document(root: &Path, file: &Path, text: &str, findings: &mut Vec<String>) {
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for word in line.split('`').skip(1).step_by(2) {
            let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c));
            let first = word.split('/').next().unwrap_or_default();
            let named = word.contains('/') && !first.is_empty() && root.join(first).exists();
            if plain && named && !root.join(word).exists() {
                findings.push(format!(
                    "{}:{}: names `{word}`, which is not there",
                    file.display(),
                    index + 1
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_headless_file_is_reported_twice() {
        let mut findings = Vec::new();
        source(Path::new("x.rs"), &"fn f() {}\n".repeat(LINES_MAX + 1), &mut findings);
        assert_eq!(findings.len(), 2, "{findings:?}");
    }

    #[test]
    fn a_good_file_is_not_reported() {
        let mut findings = Vec::new();
        source(Path::new("x.rs"), "//! Head.\n\nfn f() {}\n", &mut findings);
        assert_eq!(findings, Vec::<String>::new());
    }
}
