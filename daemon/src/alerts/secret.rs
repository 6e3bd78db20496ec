//! Values that are never shown.

use std::fmt;
use std::path::Path;

/// Longest secret that is read from a file or the environment, in bytes.
const MAX_LENGTH: usize = 8 * 1024;

/// A password, a token or a URL that carries one. `Debug` shows that it is there, nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a secret cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error(
        "cannot read {path}: {why}; write the secret into that file, readable for tidegate alone"
    )]
    File {
        /// The file.
        path: String,
        /// What the system said.
        why: String,
    },
    /// The environment has no such variable.
    #[error("the environment has no `{0}`; set it, for a service with `EnvironmentFile=`")]
    Variable(String),
    /// It is there, but cannot be one.
    #[error("{0} holds no secret: {1}; write it alone, on one line")]
    Unfit(String, &'static str),
}

impl Secret {
    /// The secret itself, to be put on the wire and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The content of the file at `path`, without the line end that editors add.
    ///
    /// # Errors
    /// [`SecretError`] if there is none.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let name = path.display().to_string();
        match std::fs::read(path) {
            Ok(octets) => Self::fit(&name, octets),
            Err(error) => Err(SecretError::File { path: name, why: error.to_string() }),
        }
    }

    /// The value of the environment variable `name`.
    ///
    /// # Errors
    /// [`SecretError`] if there is none.
    pub fn from_environment(name: &str) -> Result<Self, SecretError> {
        use std::os::unix::ffi::OsStringExt as _;
        match std::env::var_os(name) {
            Some(value) => Self::fit(&format!("`{name}`"), value.into_vec()),
            None => Err(SecretError::Variable(name.to_owned())),
        }
    }

    fn fit(place: &str, octets: Vec<u8>) -> Result<Self, SecretError> {
        let unfit = |why| SecretError::Unfit(place.to_owned(), why);
        let text = String::from_utf8(octets).map_err(|_| unfit("it is not UTF-8 text"))?;
        let secret = text.trim();
        if secret.is_empty() {
            return Err(unfit("it is empty"));
        }
        if secret.len() > MAX_LENGTH {
            return Err(unfit("it is longer than 8 KiB"));
        }
        if secret.contains(|character: char| character.is_control()) {
            return Err(unfit("it has a control character or several lines"));
        }
        Ok(Self(secret.to_owned()))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        let secret = Secret::from_file(&path).unwrap();
        assert_eq!(secret.expose(), "s3cret");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        for hostile in ["", " \n", "two\nlines", "a\0b"] {
            std::fs::write(&path, hostile).unwrap();
            let error = Secret::from_file(&path).unwrap_err();
            assert!(matches!(error, SecretError::Unfit(..)), "{hostile:?}: {error}");
        }
        assert!(matches!(
            Secret::from_environment("TIDEGATE_TEST_NO_SUCH_VARIABLE"),
            Err(SecretError::Variable(_))
        ));
    }
}
