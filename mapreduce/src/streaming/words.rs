//! Splitting a command into words as Hadoop does: at blanks, but not within quotes. Pure.

/// The words of a command; `None` if a quote is not closed.
pub(crate) fn split(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = command.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        end if end == letter => break,
                        '\\' if letter == '"' => word.push(letters.next()?),
                        other => word.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(letters.next()?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn quotes_keep_blanks_and_backslashes_keep_letters() {
        let words = split(r#"awk '{ print $1 "x" }'  "a \"b\"" c\ d """#).unwrap();
        assert_eq!(words, ["awk", r#"{ print $1 "x" }"#, r#"a "b""#, "c d", ""]);
        assert_eq!(split("  ").unwrap(), Vec::<String>::new());
        assert_eq!(split("'open"), None);
    }
}
