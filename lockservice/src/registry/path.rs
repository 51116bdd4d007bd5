//! The name of a node: `/`, or `/a/b`. What a node stands for is not known here.

use std::fmt;

/// The path of a node of the registry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodePath(String);

/// Why some text is no path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadPath {
    /// It does not begin with a slash.
    #[error("a path of the registry begins with `/`")]
    Relative,
    /// A part is empty, `.` or `..`, or there is a slash at the end.
    #[error("the parts of a registry path are not empty and neither `.` nor `..`")]
    Part,
    /// A part has a control character.
    #[error("a registry path has no control characters")]
    Control,
    /// The path has more than [`NodePath::MOST_BYTES`] bytes, or a part more than
    /// [`NodePath::MOST_PART`].
    #[error("a registry path has at most 1024 bytes, each part at most 255")]
    TooLong,
}

impl NodePath {
    /// The most bytes of a path.
    pub const MOST_BYTES: usize = 1024;
    /// The most bytes of one part.
    pub const MOST_PART: usize = 255;

    /// The path that `text` says.
    ///
    /// # Errors
    /// If it says none.
    pub fn new(text: impl Into<String>) -> Result<Self, BadPath> {
        let text = text.into();
        let Some(rest) = text.strip_prefix('/') else { return Err(BadPath::Relative) };
        if text.len() > Self::MOST_BYTES {
            return Err(BadPath::TooLong);
        }
        if !rest.is_empty() {
            for part in rest.split('/') {
                if part.is_empty() || part == "." || part == ".." {
                    return Err(BadPath::Part);
                }
                if part.len() > Self::MOST_PART {
                    return Err(BadPath::TooLong);
                }
                if part.chars().any(char::is_control) {
                    return Err(BadPath::Control);
                }
            }
        }
        Ok(Self(text))
    }

    /// `/`.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The node `name` below this one.
    ///
    /// # Errors
    /// If that is no path.
    pub fn child(&self, name: &str) -> Result<Self, BadPath> {
        if name.contains('/') {
            return Err(BadPath::Part);
        }
        let above = if self.0 == "/" { "" } else { &self.0 };
        Self::new(format!("{above}/{name}"))
    }

    /// The node above; the root has none.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/')? {
            ("", "") => None,
            ("", _) => Some(Self::root()),
            (above, _) => Some(Self(above.to_owned())),
        }
    }

    /// The last part; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// The whole path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `other` is this node or below it.
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        self.0 == "/"
            || other.0.strip_prefix(&self.0).is_some_and(|r| r.is_empty() || r.starts_with('/'))
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{BadPath, NodePath};

    #[test]
    fn only_whole_clean_paths_are_paths() {
        for good in ["/", "/a", "/a/b c/d.e", "/mounts/17"] {
            assert_eq!(NodePath::new(good).unwrap().as_str(), good);
        }
        let bad = [
            ("", BadPath::Relative),
            ("a", BadPath::Relative),
            ("/a/", BadPath::Part),
            ("//a", BadPath::Part),
            ("/a/../b", BadPath::Part),
            ("/a\n", BadPath::Control),
        ];
        for (text, why) in bad {
            assert_eq!(NodePath::new(text), Err(why), "{text:?}");
        }
        assert_eq!(NodePath::new(format!("/{}", "x".repeat(256))), Err(BadPath::TooLong));
    }

    #[test]
    fn parents_children_and_what_lies_below() {
        let path = NodePath::new("/a/b").unwrap();
        assert_eq!(path.parent(), NodePath::new("/a").ok());
        assert_eq!(path.parent().unwrap().parent(), Some(NodePath::root()));
        assert_eq!(NodePath::root().parent(), None);
        assert_eq!(NodePath::root().child("a").unwrap().child("b").unwrap(), path);
        assert_eq!(path.name(), "b");
        assert!(NodePath::new("/a").unwrap().holds(&path));
        assert!(!NodePath::new("/a/bc").unwrap().holds(&path));
        assert!(!path.holds(&NodePath::new("/a/bc").unwrap()));
        assert!(path.child("x/y").is_err());
    }
}
