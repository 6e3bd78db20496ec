//! Which state of the policy repository a policy was read from.

use std::fmt;

/// Hexadecimal digits of a commit that are shown to people, as `git log --abbrev=12` does.
const SHOWN_DIGITS: usize = 12;

/// A commit of the policy repository, and whether the text that was read is really what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Name of the commit in hexadecimal.
    pub commit: String,
    /// How the text that was read relates to the commit.
    pub state: Tree,
}

/// How the policy text relates to the commit that is checked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// The text is the one of the commit, byte for byte.
    Clean,
    /// Files were changed, added or removed since.
    Dirty,
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.commit.get(..SHOWN_DIGITS).unwrap_or(&self.commit);
        formatter.write_str(shown)?;
        match self.state {
            Tree::Clean => Ok(()),
            Tree::Dirty => formatter.write_str("-dirty"),
        }
    }
}
