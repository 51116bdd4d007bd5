//! Input paths with patterns: `*`, `?`, `[a-z]`, `[^a]` and `{one,two}`, as Hadoop's shell has them. Pure; what
//! exists is not known here.

/// The most alternatives that braces may stand for.
const ALTERNATIVES: usize = 1000;

/// Whether a path has anything to expand.
pub(crate) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

/// A path without braces for each alternative, the first ones only if there are far too many.
pub(crate) fn alternatives(path: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        let braces = path.find('{').and_then(|begin| Some((begin, closing(&path, begin)?)));
        let Some((begin, end)) = braces else {
            done.push(path);
            continue;
        };
        if open.len() + done.len() > ALTERNATIVES {
            break;
        }
        let inside = split_outside_braces(&path[begin + 1..end]);
        for one in inside.iter().rev() {
            open.push(format!("{}{one}{}", &path[..begin], &path[end + 1..]));
        }
    }
    done
}

fn closing(path: &str, begin: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in path.bytes().enumerate().skip(begin) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The parts of a text between commas that are not within braces.
pub(crate) fn split_outside_braces(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut parts) = (0_u32, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// Whether a name matches a pattern without braces.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on if the rest does not fit: one byte more for the last star.
    let (mut at, mut pos, mut star) = (0, 0, None);
    while pos < name.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, pos));
        } else if let Some(next) = one(pattern, at, name[pos]) {
            at = next;
            pos += 1;
        } else if let Some((after, from)) = star {
            at = after;
            pos = from + 1;
            star = Some((after, pos));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// The place in the pattern behind what matches `byte` at `at`, if it does.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => {
            let close = at + 2 + pattern.get(at + 2..)?.iter().position(|byte| *byte == b']')?;
            let set = &pattern[at + 1..close];
            let (negated, set) = match set {
                [b'^' | b'!', rest @ ..] => (true, rest),
                _ => (false, set),
            };
            let mut found = false;
            let mut rest = set;
            while let [low, tail @ ..] = rest {
                rest = tail;
                if let [b'-', high, tail @ ..] = rest {
                    found |= (*low..=*high).contains(&byte);
                    rest = tail;
                } else {
                    found |= *low == byte;
                }
            }
            (found != negated).then_some(close + 1)
        }
        b'\\' => (*pattern.get(at + 1)? == byte).then_some(at + 2),
        plain => (plain == byte).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::{alternatives, matches};

    #[test]
    fn stars_questions_and_sets_match_as_a_shell_s() {
        for (pattern, name, expected) in [
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt.gz", false),
            ("part-?????", "part-00001", true),
            ("part-?????", "part-0001", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[]", "[", false),
            ("\\*", "*", true),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn braces_stand_for_each_of_their_parts() {
        assert_eq!(alternatives("/a/{b,c{d,e}}/f"), ["/a/b/f", "/a/cd/f", "/a/ce/f"]);
        assert_eq!(alternatives("/plain"), ["/plain"]);
        assert_eq!(alternatives("/{open"), ["/{open"]);
    }
}
